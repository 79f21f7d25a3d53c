"""rCM: continuous-time consistency, regularised by the difference of two scores on the student's own samples.

Large Scale Diffusion Distillation via Score-Regularized Continuous-Time Consistency (arXiv 2510.08431); losses as in
the authors' code (NVlabs/rcm, rcm/models/t2v_model_distill_rcm.py). In TrigFlow, D the guided teacher's data, F the
student's output, x its samples of 1 to 4 steps, gradients through the last:

    scm   |F - sg(F) - g|^2,   g the tangent cos(t) df/dt along the guided teacher's path, normalised
    dmd   1/2 |x - sg(x - (x_fake - D) / mean|x - D|)|^2 at noised x; x_fake follows x, four moves to one of F
    rcm   scm + 0.02 dmd: the published proportion, 100 to 1 of sums, the latter without the 1/2

8x8 digits by class, guidance null + 3 (cond - null), a small DiT; sCM learns from samples of the guided teacher, as in
the released configuration. Ours: the number of steps of a rollout is drawn for each example; dmd acts from the first
step, where the code waits for the end of the warm-up; no average of the student. Equal updates of the student;
`frechet_2`, ... are of two and four steps.

`kdjax verify rcm`: not verified yet.
"""

import dataclasses

from kdjax.algorithms.consistency_continuous import continuous_consistency, warming
from kdjax.algorithms.consistency_regularised import follows_rollouts, score_regularisation
from kdjax.algorithms.trajectory import asking
from kdjax.diffusion import DPMSolver, Guidance
from kdjax.experiment import Experiment
from kdjax.objectives import term
from kdjax.tasks.digit_diffusion import DigitDiffusion
from kdjax.tasks.few_step_students import FewStepStudents, recorded_pairs, students_steps
from kdjax.tasks.task import Bound


@dataclasses.dataclass(frozen=True)
class RCM(FewStepStudents, DigitDiffusion):
    student: str = 'dit-64-2-p4'
    teacher: str = 'dit-64-2-p4'
    steps: int = 1000
    teacher_steps: int = 3000
    guidance: float = 3.0
    regularisation: float = 0.02
    moves: int = 4
    rollout: int = 4


def arms(task: RCM):
    guidance, label = Guidance(task.guidance, 'from_null'), 'batch.label'
    samples = recorded_pairs(
        task, task.trained_teacher, DPMSolver(), 12, name='guided_samples', guidance=guidance, shared=True
    )
    bound = {
        'teacher': task.live_teacher(),
        'pairs': samples,
        'warmup': Bound(warming(task.steps // 4), {}),
    }

    def asked(loss, *reads, **options):
        return term(asking(loss, task.denoiser), *reads, **options)

    scm = asked(
        continuous_consistency, 'pairs', label, 'student()', 'teacher()', 'warmup',
        form='rcm', mean=0.7, deviation=1.6, guidance=guidance,
    )  # fmt: skip
    dmd = asked(
        score_regularisation, 'batch.noise', label, 'student()', 'teacher()', 'fake()',
        steps=task.rollout, guidance=guidance,
    )  # fmt: skip
    following = asked(follows_rollouts, 'batch.noise', label, 'student()', 'fake()', steps=task.rollout)

    def learn(objective, student, teacher):
        """student, teacher: passes of either in an update of the student."""
        plays = any('fake()' in each.reads for each in objective.terms)
        calls = {'student': student, 'teacher': teacher} | ({'fake': 1} if plays else {})
        players = {'student': task.follower(objective, spec=task.student, moves=1, calls=calls)}
        if plays:
            calls = {'student': task.rollout, 'fake': 3}
            players = {'fake': task.follower(following, moves=task.moves, calls=calls), **players}
        return task.play(
            players, bound, inputs={'start': task.trained_teacher.variables}, turns='in_order',
            evaluates=students_steps(task, (1, 2, 4), renoise=True),
        )  # fmt: skip

    return {
        'scm': learn(scm, 4, 2),
        'dmd': learn(dmd, task.rollout + 2, 2),
        'rcm': learn(scm + task.regularisation * dmd, task.rollout + 6, 4),
    }


experiment = Experiment(
    title='rCM: continuous consistency with score regularisation',
    systems=(380,),
    config=RCM(),
    arms=arms,
    claims=(
        'rcm < scm on frechet',
        'rcm < scm on frechet_2',
        'rcm > dmd on recall',
        'rcm > dmd on within_class',
        'rcm > dmd - 0.05 on precision',
    ),
)
