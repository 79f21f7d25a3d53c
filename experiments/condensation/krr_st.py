"""KRR-ST: a set of images and representations, made without a label, that pre-trains a network.

Lee et al., Self-Supervised Dataset Distillation for Transfer Learning (arXiv 2310.06511); as in the authors' code
(db-Lee/selfsup_dd, algorithms/distill.py). g: the teacher's representation, learned without labels; phi: features of a
network of a pool that learns the set, with a one; X, Y: the set; x: shifted real images:

    krr_st     min over X, Y of |phi(x) phi(X)^T (phi(X) phi(X)^T + 1e-6 tr I)^-1 Y - g(x)|^2
    images, targets      the same over X alone, over Y alone
    random, k_means      real images with g of them: random, or nearest to centres of k-means
    all        every real image with g of it, as many steps: the ceiling
    scratch    a network that has learned nothing

A network learns the pairs by mean squared error, its last layer is taken off, and a linear readout of what is left is
fitted to 5 labelled images of each class (`accuracy`) or to all (`all/accuracy`). `unexplained` is the squared error to
g at held-out images, over the variance of g. Ours: the teacher contrasts two shifts of an image where theirs is Barlow
Twins; the readout is of the same digits, where theirs is of other data.

`kdjax verify krr_st`: ten minutes on half a core. The set's rate and its size were chosen on one validation seed: with
about as many pairs as features a readout that fits them exactly is at its worst elsewhere, the loss says little of
pre-training, and learned pairs were worse than those they began as. Five seeds, test split: the set tells more of the
teacher than the pairs that it starts at, krr_st - random -0.046 [-0.080, -0.011] of unexplained, and targets alone
learn nothing of it, krr_st - targets -0.063 [-0.087, -0.040] of unexplained; that images alone do not suffice is not to
be seen, krr_st - images -0.014 [-0.046, +0.018] of unexplained. Contrary: pairs near centres of k-means tell more
without any learning, krr_st - k_means +0.068 [+0.049, +0.087] of unexplained, and none of it reaches a readout of
classes, krr_st - random -0.0059 [-0.0177, +0.0060] of accuracy, krr_st - scratch +0.015 [-0.002, +0.032] of accuracy.
The authors take 160,000 updates, here they are 1000.
"""

import dataclasses

from kdjax.experiment import Experiment
from kdjax.tasks.unlabelled_images import UnlabelledImages


@dataclasses.dataclass(frozen=True)
class KRRST(UnlabelledImages):
    learning_rate: float = 0.01


def arms(task: KRRST):
    def learned(name, made):
        return task.read_out(name, task.pretrained(name, made))

    start = task.pairs('random')
    return {
        'scratch': task.read_out('scratch', task.untrained()),
        'random': learned('random', start),
        'k_means': learned('k_means', task.pairs('k_means')),
        'targets': learned('targets', task.condensed('targets_set', start, images=False)),
        'images': learned('images', task.condensed('images_set', start, labels=False)),
        'krr_st': learned('krr_st', task.condensed('krr_st_set', start)),
        'all': task.read_out('all', task.pretrained_on_all()),
    }


experiment = Experiment(
    title='KRR-ST: sets that pre-train without labels',
    systems=(318,),
    config=KRRST(),
    arms=arms,
    claims=(
        'krr_st < random on unexplained',
        'krr_st < k_means on unexplained',
        'krr_st > random on accuracy',
        'krr_st > k_means on accuracy',
        'krr_st > scratch on accuracy',
        'krr_st < images on unexplained',
        'krr_st < targets on unexplained',
    ),
)
