"""InstaFlow: a flow is straightened by its own pairs before it is distilled into one step.

Liu et al., InstaFlow: One Step is Enough for High-Quality Diffusion-Based Text-to-Image Generation (arXiv 2309.06380);
reflow as in the code of rectified flow (gnobitab/RectifiedFlow, ImageGeneration/losses.py). Stages as the model cards
have them; the training code of InstaFlow is not public. z is noise, x what a flow's ODE makes of it, t = 1 noise:

    reflow    |v((1 - t) x + t z, t) - (z - x)|^2       on pairs (z, x) of the flow before, one for each training point
    distil    |(z - v(z, 1)) - x|^2                     on pairs of the last flow, from its weights

    direct        B updates of distil on the teacher's pairs      once     B/2 of reflow, then B/2 of distil
    twice         B/3 of each of reflow, reflow, distil           progressive   rounds of B/3 at 4, 2 and 1 steps
    flow_0        the teacher, B/2 more updates on noise paired at random       flow_1, flow_2   after one, two reflows

Points of a ring of eight modes, nobody is told the class; students are as small as the teacher and begin with its
weights. L2 alone: there is no LPIPS on points. Flows are measured by 8 Euler steps; `error_crooked` is the integral of
|v - (z - x)|^2 along the flow's own paths, `error_pair` the squared distance of one-step samples from the end of the
teacher's ODE, which reflow keeps only as far as it is exact.

`kdjax verify instaflow`: not verified yet.
"""

import dataclasses

from kdjax.algorithms.trajectory import asking
from kdjax.algorithms.trajectory_progressive import progressive
from kdjax.algorithms.trajectory_reflow import crookedness, one_step_regression, reflow
from kdjax.diffusion import Euler, Flow, Heun
from kdjax.diffusion.times import uniform
from kdjax.experiment import Experiment
from kdjax.objectives import term
from kdjax.tasks.few_step_students import (
    FewStepStudents,
    off_path,
    recorded_pairs,
    student_of,
    students_steps,
    weights_of,
)
from kdjax.tasks.mixtures_2d import Mixtures2D
from kdjax.tasks.task import Trained


@dataclasses.dataclass(frozen=True)
class InstaFlow(FewStepStudents, Mixtures2D):
    conditional: bool = False
    student: str = 'points-64-2'
    teacher: str = 'points-64-2'
    batch: int = 256
    steps: int = 3000
    teacher_steps: int = 4000
    solver_steps: int = 12


def arms(task: InstaFlow):
    teacher, label = task.live_teacher(), 'batch.label'

    def pairs_of(trained, name, shared=False):
        solver = Heun(along='noise')
        return {'pairs': recorded_pairs(task, trained, solver, task.solver_steps, name=name, shared=shared)}

    def as_flow(view):
        student, noise = task.denoiser(view['student()'], 'student'), view['batch.noise']
        sample = Euler()(student.under(Flow()), noise, uniform(8), view[label])
        return {'sample': sample, 'error_crooked': crookedness(noise, view[label], student)}

    def as_one_step(view, student, sample):
        return {'error_pair': off_path(task, view, sample)}

    def learn(loss, noise, x, bound, evaluates, **options):
        objective = term(asking(loss, task.denoiser), noise, x, label, 'student()')
        return student_of(task, objective, bound, calls={'student': 3}, evaluates=evaluates, **options)

    def reflowed(pairs, name, steps, start=None):
        return learn(reflow, 'pairs.noise', 'pairs', pairs, as_flow, name=name, steps=steps, start=start)

    def distilled(pairs, steps, start=None):
        bound, evaluates = {**pairs, 'teacher': teacher}, students_steps(task, more=as_one_step)
        return learn(one_step_regression, 'pairs.noise', 'pairs', bound, evaluates, steps=steps, start=start)

    def after(stage, name):
        return pairs_of(Trained(task.network(task.student), weights_of(stage)), name)

    def rounds(parts=(4, 2, 1)):
        bound, start = teacher, None
        for n in parts:
            objective = term(asking(progressive, task.denoiser), 'batch.data', label, 'student()', 'teacher()', steps=n)
            stage = student_of(
                task, objective, {'teacher': bound}, calls={'student': 3, 'teacher': 2}, name=f'progressive_{n}',
                evaluates=students_steps(task), steps=task.steps // len(parts), start=start,
            )  # fmt: skip
            start = weights_of(stage)
            bound = task.live_teacher(Trained(task.network(task.student), start))
        return stage

    first = pairs_of(task.trained_teacher, 'pairs_0', shared=True)
    half, third = task.steps // 2, task.steps // 3
    flow = reflowed(first, 'reflow', half)
    shorter = reflowed(first, 'reflow_short', third)
    again = reflowed(after(shorter, 'pairs_short'), 'reflow_again', third, weights_of(shorter))
    straightened = after(flow, 'pairs_1')
    return {
        'direct': distilled(first, task.steps),
        'once': distilled(straightened, half, weights_of(flow)),
        'twice': distilled(after(again, 'pairs_2'), third, weights_of(again)),
        'progressive': rounds(),
        'flow_0': learn(reflow, 'batch.noise', 'batch.data', {}, as_flow, steps=half),
        'flow_1': reflowed(first, 'flow_1', half),
        'flow_2': reflowed(straightened, 'flow_2', half, weights_of(flow)),
    }


experiment = Experiment(
    title='InstaFlow: reflow, then distillation into one step',
    systems=(49,),
    config=InstaFlow(),
    arms=arms,
    claims=(
        'once < direct on kl_to_data',
        'twice < direct on kl_to_data',
        'once < progressive on kl_to_data',
        'flow_1 < flow_0 on error_crooked',
        'flow_2 < flow_1 on error_crooked',
    ),
)
