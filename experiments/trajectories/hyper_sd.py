"""Hyper-SD: consistency within segments of time, whose number falls stage by stage.

Ren et al., Hyper-SD: Trajectory Segmented Consistency Model for Efficient Image Synthesis (arXiv 2404.13686), equations
11 and 12 and algorithm 1; no training code is public. Out of scope here: human feedback, the adversarial part of the
distance, the one-step stage by distribution matching, LoRA. With J DDIM's jump by the student's data f, x_s one step of
the teacher from x_t, f' the average of the student, e uniform from the start of the segment of t to s:

    tscd         |J(x_t, f, t -> e) - sg J(x_s, f', s -> e)|^2      8, 4, 2, then 1 segments, B updates each
    fixed_end    the same with e always the start of the segment
    ctm          1 segment for all 4 B updates (TCD, CTM without its denoising loss)
    consistency  consistency distillation, 4 B updates, sampled with fresh noise
    ddim_n       n steps of DDIM on the teacher

Points of a ring of eight modes, nobody is told the class; the teacher is the exact denoiser of their law. Metrics at 1,
2, 4 and 8 steps (`kl_to_data`, `kl_to_data_2`, ...), by DDIM on an even grid, which is the TCD sampler without noise;
`error_path` is the squared distance of one-step samples from the end of the teacher's ODE. Ours: every student is
weighed by the inverse of the step in sigma.

`kdjax verify hyper_sd`: two minutes on one core. Of the rates 1e-3 and 3e-4 the first was better for every arm on one
validation seed. Five seeds, test split, contrary: a network that is not told where a jump ends serves all ends with one
prediction, which is a mean of images where segments are long, tscd - consistency +12.60 [+12.45, +12.74] of kl_to_data;
in four steps it is better, tscd - consistency -0.330 [-0.419, -0.240] of kl_to_data_4. Growing
segments buy nothing beside one segment from the start, tscd - ctm +0.195 [+0.105, +0.284] of kl_to_data_2, and jumps
that all end at the start of the segment are far better in two steps, tscd - fixed_end +1.24 [+1.18, +1.30] of
kl_to_data_2. The published one step comes from distribution matching, which is out of scope here.
"""

import dataclasses

from kdjax import teachers
from kdjax.algorithms.consistency_discrete import consistency_distillation
from kdjax.algorithms.consistency_segmented import segmented_consistency
from kdjax.algorithms.trajectory import asking
from kdjax.experiment import Experiment
from kdjax.objectives import term
from kdjax.tasks.few_step_students import FewStepStudents, off_path, student_of, students_steps
from kdjax.tasks.generating import DENOISES
from kdjax.tasks.mixtures_2d import Mixtures2D
from kdjax.tasks.samplers import ddim_arms
from kdjax.tasks.staged_students import segmented_stages
from kdjax.tasks.task import Bound


@dataclasses.dataclass(frozen=True)
class HyperSD(FewStepStudents, Mixtures2D):
    conditional: bool = False
    student: str = 'points-64-2'
    teacher: str = 'points-64-2'
    batch: int = 256
    steps: int = 3200
    teacher_steps: int = 3000
    grid: int = 32
    decay: float = 0.95


SEGMENTS, STEPS = (8, 4, 2, 1), (1, 2, 4, 8)


def arms(task: HyperSD):
    network, exact = task.network(task.student), task.exact_teacher()
    average = Bound(teachers.ema(network, decay=task.decay, reads=DENOISES), {}, (network,))

    def in_steps(renoise=False):
        return students_steps(
            task, STEPS, renoise=renoise,
            more=lambda view, student, sample: {'error_path': off_path(task, view, sample)},
        )  # fmt: skip

    def learn(loss, *, renoise=False, **options):
        reads = 'batch.data', 'batch.label', 'student()', 'average()', 'teacher()'
        return student_of(
            task, term(asking(loss, task.denoiser), *reads, steps=task.grid, **options),
            {'teacher': exact, 'average': average}, calls={'student': 3, 'average': 1}, evaluates=in_steps(renoise),
        )  # fmt: skip

    def staged(name, **options):
        return segmented_stages(
            task, exact, SEGMENTS, grid=task.grid, decay=task.decay, evaluates=in_steps(), name=name, **options
        )

    return {
        'tscd': staged('tscd'),
        'fixed_end': staged('fixed_end', fixed_end=True),
        'ctm': learn(segmented_consistency, segments=1),
        'consistency': learn(consistency_distillation, order=1, renoise=True),
        **ddim_arms(task, STEPS, exact=task.exact_denoiser()),
    }


experiment = Experiment(
    title='Hyper-SD: consistency within fewer and fewer segments',
    systems=(58,),
    config=HyperSD(),
    arms=arms,
    claims=(
        'tscd < consistency on kl_to_data',
        'tscd < consistency on kl_to_data_2',
        'tscd < consistency on kl_to_data_4',
        'tscd < ctm on kl_to_data',
        'tscd < ctm on kl_to_data_2',
        'tscd < ctm on kl_to_data_4',
        'tscd < fixed_end on kl_to_data_2',
    ),
)
