"""Pruned data and a teacher: with distillation, a random part of the data is as good as a well chosen one.

Ben-Baruch et al., Distilling the Knowledge in Data Pruning (arXiv 2403.07854). A teacher of the student's architecture
learns from all images; a student from those that were kept, under random shifts, as many steps whatever was kept:

    (1 - a) CE(y, p) + a T^2 KL(p_T^(T) || p^(T)),   T = 4;   a = 0 without a suffix, 0.9 for `_kd`, 0.5 for `_half`

    random     kept at random                              el2n      the largest |p - y| early in training (hardest)
    herding    running mean near that of the class         full      all images
    random_small, random_large     `_kd` with a teacher of a quarter and of four times the width

`_5`, `_20`, `_50`: images of each class, of about 100. A tenth of the training labels is wrong
(`mislabelled:0.1:digits`), so that there is something for a teacher to mend and for a scorer of hard images to keep;
validation and test are clean.
The paper's code is not public: its loss is read as Hinton's, with T^2.

`kdjax verify kd_pruning`: two minutes on one core. The recipe is that of all condensed images; nothing else was chosen.
Five seeds, test split: a teacher helps where little is kept, random_kd_5 - random_5 +0.118 [+0.074, +0.162] of
accuracy, random_kd_20 - random_20 +0.018 [+0.001, +0.036] of accuracy, and makes up for keeping the hardest images,
whose labels are the wrong ones, el2n_kd_5 - el2n_5 +0.838 [+0.823, +0.853] of accuracy: with it the choice no longer
matters, random_kd_5 - el2n_kd_5 +0.008 [-0.015, +0.031] of accuracy. Contrary: it costs accuracy where half is kept,
random_kd_50 - random_50 -0.024 [-0.035, -0.012] of accuracy, and so stays behind all images with labels alone,
random_kd_50 - full -0.036 [-0.057, -0.014] of accuracy: it has learned from the wrong labels too. Half its weight is
better there, random_half_50 - random_kd_50 +0.020 [+0.013, +0.028] of accuracy. Its size decides nothing.
"""

import dataclasses

from kdjax.experiment import Experiment
from kdjax.tasks.condensing.scored import el2n
from kdjax.tasks.condensing.selected import herding, random
from kdjax.tasks.pruned_images import PrunedImages

WAYS = {'random': random, 'el2n': el2n, 'herding': herding}


@dataclasses.dataclass(frozen=True)
class KDPruning(PrunedImages):
    weight: float = 0.9
    half: float = 0.5
    small: str = 'mlp-16'
    large: str = 'mlp-256'


def arms(task: KDPruning):
    found = {'full': task.taught(None, 0.0), 'full_kd': task.taught(None, task.weight)}
    for size in (5, 20, 50):
        sized = task.at(size)
        for way, choose in WAYS.items():
            kept = choose(sized)
            found[f'{way}_{size}'] = sized.taught(kept, 0.0)
            found[f'{way}_kd_{size}'] = sized.taught(kept, task.weight)
        if size != 20:
            found[f'random_half_{size}'] = sized.taught(random(sized), task.half)
    sized = task.at(5)
    for name, spec in (('small', task.small), ('large', task.large)):
        teacher = task.train_teacher(f'{name}_teacher', spec)
        found[f'random_{name}_5'] = sized.taught(random(sized), task.weight, teacher=teacher)
    return found


experiment = Experiment(
    title='Pruned data and a teacher',
    systems=(332,),
    config=KDPruning(),
    arms=arms,
    claims=(
        'random_kd_5 > random_5 on accuracy',
        'random_kd_20 > random_20 on accuracy',
        'random_kd_50 > random_50 on accuracy',
        'el2n_kd_5 > el2n_5 on accuracy',
        'herding_kd_5 > herding_5 on accuracy',
        'random_kd_5 > el2n_kd_5 on accuracy',
        'random_kd_20 > el2n_kd_20 on accuracy',
        'random_kd_50 > el2n_kd_50 - 0.01 on accuracy',
        'random_kd_5 > herding_kd_5 - 0.01 on accuracy',
        'random_kd_50 > full on accuracy',
        'random_kd_5 > random_half_5 on accuracy',
        'random_half_50 > random_kd_50 on accuracy',
        'random_small_5 > random_large_5 on accuracy',
    ),
)
