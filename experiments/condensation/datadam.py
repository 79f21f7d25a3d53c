"""DataDAM: mean attention maps of random networks are matched, and mean features in the place of the last map.

Sajedi et al., DataDAM: Efficient Dataset Distillation with Attention Matching (arXiv 2310.00093); as in the authors'
code (main_DataDAM.py). Per class, on a fresh network, real and synthetic images under one augmentation; a_l: the sum
over channels of |A_l|^p at every place of the map behind layer l's ReLU, divided by its length; f: pooled features:

    datadam        100 sum_l |mean a_l(real) - mean a_l(set)|^2 + |mean f(real) - mean f(set)|^2,   p = 4 (the table)
    datadam_p1     the same with p = 1 (what the released code runs)
    attention      the first sum alone          dm     the second term alone
    random, k_means      real images: at random, or nearest to centres of k-means
    dc, dsa        gradients, at 1 image of each class alone: at 10 they train a network 50 times a step
    rs2            fresh minibatches of all images, as many steps: a baseline in compute, not in storage

`_1`, `_10`: images of each class. All but `dc` start at the same random real images. SGD at 1 with momentum 0.5
everywhere (0.1 in dc and dsa), as many updates of every set.

`kdjax verify datadam`: 18 minutes on a third of a core. Nothing was chosen for it; the recipe is that of all condensed
images. Five seeds, test split: it learns, datadam_1 - random_1 +0.224 [+0.189, +0.260] of accuracy, and attention adds
nothing to mean features, datadam_1 - dm_1 -0.011 [-0.040, +0.018] of accuracy, datadam_10 - dm_10 -0.0076 [-0.0260,
+0.0108] of accuracy; gradients do as well at one image of each class, datadam_1 - dsa_1 -0.0056 [-0.0352, +0.0240] of
accuracy. Contrary: a dense network learns less from it than from the set of mean features, datadam_10 - dm_10 -0.018
[-0.031, -0.004] of mlp/accuracy. A ConvNet for 8x8 digits has two blocks, and so a single map before its last.
"""

import dataclasses
import functools

from kdjax.experiment import Experiment
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.arms import Way, arms_at
from kdjax.tasks.condensing.datadam import datadam
from kdjax.tasks.condensing.repeated import without_replacement


@dataclasses.dataclass(frozen=True)
class DataDAM(CondensedImages):
    transfer: tuple[str, ...] = ('mlp-64',)
    set_steps: int = 300


def arms(task: DataDAM):
    parts: dict[str, Way] = {
        'datadam_p1': functools.partial(datadam, power=1, name='datadam_p1'),
        'attention': functools.partial(datadam, embedding=0, name='attention'),
    }
    both = arms_at(task, (1, 10), 'random', 'k_means', 'dm', 'datadam', rs2=without_replacement)
    return both | arms_at(task, (1,), 'dc', 'dsa') | arms_at(task, (10,), **parts)


experiment = Experiment(
    title='DataDAM: attention maps of random networks, matched',
    systems=(307,),
    config=DataDAM(),
    arms=arms,
    claims=(
        'datadam_1 > dm_1 on accuracy',
        'datadam_10 > dm_10 on accuracy',
        'datadam_1 > random_1 on accuracy',
        'datadam_10 > random_10 on accuracy',
        'datadam_1 > dsa_1 on accuracy',
        'datadam_1 > dc_1 on accuracy',
        'datadam_10 > attention_10 on accuracy',
        'datadam_10 > dm_10 on mlp/accuracy',
    ),
)
