"""FYI: mirror images stand beside the set while it is matched, so that it need not hold both sides of anything.

Son et al., FYI: Flip Your Images for Dataset Distillation (arXiv 2407.08113); as in the authors' code
(cvlab-yonsei/FYI, BatchAug before DiffAugment). A is the set S with the mirror images of S, labels repeated:

    dm       sum_c | mean feature of real images of c - mean feature of S_c |^2          dm_fyi     the same of A_c
    mtt      inner steps on minibatches of S                                              mtt_fyi    the same of A
    random, k_means    real images

Only S is stored and learned from; the recipe mirrors images at random, for all. `asymmetry` is how much of the
variation of S its mirror images do not share: 0 where every image is its own mirror image.

Digits have no mirror images, so here each of them, in every split, is turned round with probability 1/2 once and for
all (`mirrored:digits`). `--dataset digits` is the negative control, where FYI should help nobody. `_1`, `_10`: images
of each class. FYI costs twice as much on the set's side at equal updates.

`kdjax verify fyi`: five minutes on half a core. The rates of `LedDigits` were chosen before, the recipe is that of all
condensed images. Five seeds, test split: with its mirror images a single image of each class becomes one-sided,
dm_fyi_1 - dm_1 +0.351 [+0.321, +0.381] of asymmetry, mtt_fyi_1 - mtt_1 +0.294 [+0.286, +0.302] of asymmetry, and that
makes it worth more on MTT, mtt_fyi_1 - mtt_1 +0.052 [+0.026, +0.079] of accuracy; on DM the same does not show over its
seeds, dm_fyi_1 - dm_1 +0.027 [-0.021, +0.075] of accuracy. Ten images of a class hold both sides of everything without
it, and nothing is decided there, dm_fyi_10 - dm_10 +0.013 [-0.005, +0.031] of accuracy, mtt_fyi_10 - mtt_10 +0.0052
[-0.0138, +0.0242] of accuracy.
"""

import dataclasses

from kdjax.experiment import Experiment
from kdjax.tasks.condensing.fyi import asymmetric
from kdjax.tasks.condensing.selected import k_means, random
from kdjax.tasks.condensing.trajectories import mtt
from kdjax.tasks.led_digits import LedDigits


@dataclasses.dataclass(frozen=True)
class FYI(LedDigits):
    dataset: str = 'mirrored:digits'


def arms(task: FYI):
    buffer, found = task.buffer(), {}
    for size in (1, 10):
        sized = task.at(size)
        made = {
            'random': random(sized),
            'k_means': k_means(sized),
            'dm': sized.by_means(),
            'dm_fyi': sized.by_means(mirrored=True, name='dm_fyi'),
            'mtt': mtt(sized, follow=task.follow(), buffer=buffer),
            'mtt_fyi': mtt(sized, follow=task.follow(), buffer=buffer, mirrored=True, name='mtt_fyi'),
        }
        for name, one in made.items():
            arm = sized.measured(one)
            odd = asymmetric(one, name=f'{name}_{size}')
            found[f'{name}_{size}'] = dataclasses.replace(arm, facts={**arm.facts, 'asymmetry': odd})
    return found


experiment = Experiment(
    title='FYI: the set and its mirror images',
    systems=(22,),
    config=FYI(),
    arms=arms,
    claims=(
        'dm_fyi_1 > dm_1 on accuracy',
        'dm_fyi_10 > dm_10 on accuracy',
        'mtt_fyi_1 > mtt_1 on accuracy',
        'mtt_fyi_10 > mtt_10 on accuracy',
        'dm_fyi_1 > dm_1 on asymmetry',
        'mtt_fyi_1 > mtt_1 on asymmetry',
    ),
)
