"""RS2: in as many steps, another random subset in every round beats any subset that is chosen once.

Okanovic et al., Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning (arXiv 2305.18424); as in the
authors' code (PatrikOkanovic/RS2). A fraction of the training images in every round, one round a step here, the
learning rate's whole schedule compressed to these steps, the same for all:

    rs2              rounds are consecutive parts of a permutation of all images (without replacement)
    rs2_with         every round draws the same number of each class from all (with replacement, balanced)
    random, k_means, herding, k_center, graph_cut      one subset of real images, chosen once, on pixels
    el2n             the images that networks find hardest after 5 epochs
    dm               a set learned by distribution matching

`_1`, `_10`: 1 and 10 images of each class, 1 % and 10 % of the digits. RS2 reads all images: it is a baseline in
compute, not in storage. The steps that choose or learn a set are not counted: `k_means` and the rest get them for free.

`kdjax verify rs2`: 13 minutes on half a core. Nothing was chosen for it. Five seeds, test split: in as many steps fresh
subsets are worth more than any set that stays, rs2_1 - random_1 +0.341 [+0.297, +0.385] of accuracy, rs2_10 - random_10
+0.052 [+0.025, +0.080] of accuracy, the learned one too, rs2_1 - dm_1 +0.106 [+0.089, +0.122] of accuracy, rs2_10 -
dm_10 +0.030 [+0.016, +0.044] of accuracy; the hardest images are the worst choice, rs2_10 - el2n_10 +0.198 [+0.165,
+0.232] of accuracy. Contrary: rounds without replacement are no better than balanced ones with it, rs2_10 - rs2_with_10
-0.0052 [-0.0103, -0.0001] of accuracy: as many of each class in every minibatch is worth more than every image once. At
one image of each class herding, k-center and k-means choose the same one, that nearest to the mean.
"""

import dataclasses

from kdjax.experiment import Experiment
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.arms import Way, arms_at
from kdjax.tasks.condensing.repeated import with_replacement, without_replacement
from kdjax.tasks.condensing.scored import el2n

SIZES = (1, 10)


@dataclasses.dataclass(frozen=True)
class RS2(CondensedImages):
    transfer: tuple[str, ...] = ()
    set_steps: int = 300
    batch: int = 100


def arms(task: RS2):
    drawn: dict[str, Way] = {'rs2': without_replacement, 'rs2_with': with_replacement, 'el2n': el2n}
    names = ('random', 'k_means', 'herding', 'k_center', 'graph_cut', 'dm')
    return arms_at(task, SIZES, *names, **drawn)


experiment = Experiment(
    title='RS2: random subsets drawn again and again',
    systems=(407,),
    config=RS2(),
    arms=arms,
    claims=tuple(
        f'rs2_{size} > {other}_{size} on accuracy'
        for size in SIZES
        for other in ('random', 'herding', 'k_center', 'graph_cut', 'el2n', 'dm')
    )
    + ('rs2_10 > rs2_with_10 on accuracy', 'rs2_with_10 > random_10 on accuracy'),
)
