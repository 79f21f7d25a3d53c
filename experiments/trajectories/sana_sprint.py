"""SANA-Sprint: a flow turned into TrigFlow without loss, continuous-time consistency, and a critic on the teacher.

SANA-Sprint: One-Step Diffusion with Continuous-Time Consistency Distillation (arXiv 2503.09641); losses and laws of
time as in the authors' code (NVlabs/Sana, train_scripts/train_scm_ladd.py). F the student's output, f its data, D heads
on the tokens of the frozen teacher's blocks, at fresh noise:

    scm          |F - sg(F) - g|^2,   g the tangent cos(t) df/dt on the teacher's path, normalised
    ladd         -D(f(x_t', t')),   t' half of the time the noisiest, else log-normal
                 critic: (relu(1 - D(x)) + relu(1 + D(f))) / 2, fakes also real examples of a neighbour's class
    hybrid       scm + 0.5 ladd
    hybrid_even  hybrid with t' always log-normal: without max-time weighting

8x8 digits by class, a small DiT whose time is told in 0..1. Whatever schedule the teacher was trained under, `under`
turns it into TrigFlow (a flow too; agreement is a test, not an arm). Levels of noise as published for data of deviation
0.5, taken to that of ours: ln(2 sigma_data) is added. Ours: a teacher without guidance, so no guidance embedding; no
weight over time, where the published 1 / (sigma_data tan t) is cancelled by a learned one; perceptrons, without
spectral norm, for heads. Equal updates; `frechet_2` is of two steps.

`kdjax verify sana_sprint`: not verified yet.
"""

import dataclasses
import math
from typing import Any

from kdjax.algorithms import Player
from kdjax.algorithms.consistency_adversarial import adversarial_consistency, consistency_critic
from kdjax.algorithms.consistency_continuous import continuous_consistency, warming
from kdjax.algorithms.trajectory import asking
from kdjax.experiment import Experiment
from kdjax.models.heads_on import heads_on
from kdjax.objectives import term
from kdjax.tasks.digit_diffusion import DigitDiffusion
from kdjax.tasks.few_step_students import FewStepStudents, students_steps
from kdjax.tasks.generating import DENOISES
from kdjax.tasks.task import Bound


@dataclasses.dataclass(frozen=True)
class SanaSprint(FewStepStudents, DigitDiffusion):
    student: str = 'dit-64-2-p4'
    teacher: str = 'dit-64-2-p4'
    steps: int = 1000
    teacher_steps: int = 3000
    adversarial: float = 0.5
    hidden: int = 64


def arms(task: SanaSprint):
    reads = 'batch.data', 'batch.label', 'student()'
    bound = {'teacher': task.live_teacher(), 'warmup': Bound(warming(task.steps // 4), {})}
    heads = heads_on(task.trained_teacher.model, ('block1', 'block2'), hidden=(task.hidden,))
    scale = math.log(2 * task.sigma_data)
    levels: dict[str, Any] = {'mean': 0.2 + scale, 'deviation': 1.6}
    judged_levels = levels | {'critic_mean': -0.6 + scale, 'critic_deviation': 1.0}

    def judged(loss, at_most_noise):
        """Of the student as a denoiser, and the critic as a function of (x_t, t, class)."""

        def asked(x, condition, student, critic, *, key):
            def judge(x_t, t, told):
                return critic((x_t, t, told)).prediction

            options = judged_levels | {'at_most_noise': at_most_noise}
            return loss(x, condition, task.denoiser(student, 'student'), judge, key=key, **options)

        return term(asked, *reads, 'critic()', name=loss.__name__)

    def learn(consistent, adversarial, at_most_noise=0.5):
        """The weights of either term."""
        objective = consistent * term(
            asking(continuous_consistency, task.denoiser), *reads, 'teacher()', 'warmup', **levels
        )
        calls = {'student': 4, 'teacher': 1}
        if adversarial:
            fooling = adversarial * judged(adversarial_consistency, at_most_noise)
            objective = objective + fooling if consistent else fooling
            calls = {'student': 7, 'critic': 2, 'teacher': 1} if consistent else {'student': 3, 'critic': 2}
        players = {'student': task.follower(objective, spec=task.student, moves=1, calls=calls)}
        if adversarial:
            players['critic'] = Player(
                heads, judged(consistency_critic, at_most_noise), task.optimizer(), DENOISES, held='teacher',
                calls={'critic': 3, 'student': 1},
            )  # fmt: skip
        return task.play(
            players, bound, inputs={'start': task.trained_teacher.variables},
            evaluates=students_steps(task, (1, 2, 4), renoise=True), turns='in_order',
        )  # fmt: skip

    return {
        'scm': learn(1.0, 0.0),
        'ladd': learn(0.0, task.adversarial),
        'hybrid': learn(1.0, task.adversarial),
        'hybrid_even': learn(1.0, task.adversarial, at_most_noise=0.0),
    }


experiment = Experiment(
    title='SANA-Sprint: continuous consistency with a critic on the teacher',
    systems=(393,),
    config=SanaSprint(),
    arms=arms,
    claims=(
        'hybrid < scm on frechet',
        'hybrid < ladd on frechet',
        'hybrid < hybrid_even on frechet',
        'hybrid < scm on frechet_2',
    ),
)
