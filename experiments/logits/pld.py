"""PLD: the teacher's ranking of the classes, weighted by its confidence, instead of its probabilities.

PLD: A Choice-Theoretic List-Wise Knowledge Distillation (arXiv 2506.12542), sections 4.1, 4.2, appendix C.

    pi        the label first, then the other classes by falling teacher logit
    pld       sum_k softmax(z_T / tau)[pi_k] (logsumexp_{l >= k} z_S[pi_l] - z_S[pi_k]),   tau = 1
    listmle   the same with weights 1 / C
    kd        (1 - a) CE + a T^2 KL(p_T || p_S);   dist  CE + b (1 - row Pearson) + b (1 - column Pearson)
"""

import dataclasses

from kdjax import losses
from kdjax.experiment import Experiment
from kdjax.objectives import hard_labels, kl, term
from kdjax.tasks.small_images import SmallImages


@dataclasses.dataclass(frozen=True)
class PLD(SmallImages):
    dataset: str = 'mnist5k'
    train_examples: int | None = 500
    student: str = 'mlp-64'
    teacher: str = 'mlp-256-256'
    steps: int = 3000
    crop_padding: int = 2
    teacher_steps: int = 3000
    teacher_crop_padding: int = 2
    kd_alpha: float = 0.9
    kd_temperature: float = 2.0
    dist_weight: float = 1.0


def arms(task: PLD):
    teacher = task.live_teacher()

    def ranking(**options):
        return task.arm(term(losses.plackett_luce, 'student', 'teacher', 'batch.label', **options), teacher)

    a = task.kd_alpha
    return {
        'labels': task.arm(hard_labels()),
        'kd': task.arm((1 - a) * hard_labels() + a * kl(temperature=task.kd_temperature), teacher),
        'dist': task.arm(
            hard_labels() + term(losses.dist, 'student', 'teacher', beta=task.dist_weight, gamma=task.dist_weight), teacher
        ),
        'listmle': ranking(weights='uniform'),
        'pld': ranking(),
        'pld_tau4': ranking(temperature=4.0),
    }


experiment = Experiment(
    title='PLD: list-wise ranking distillation',
    systems=(85,),
    config=PLD(),
    arms=arms,
    claims=('pld > labels on accuracy', 'pld > kd on accuracy', 'pld > dist on accuracy', 'pld > listmle on accuracy'),
)
