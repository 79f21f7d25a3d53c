"""RS2: networks that learn from another random subset in every round, the baseline of every small set."""

from __future__ import annotations

from kdjax.algorithms.condensation.rounds import redrawn
from kdjax.stage import Train
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.dream import real_images
from kdjax.tasks.task import Bound


def without_replacement(task: CondensedImages) -> Train:
    """Minibatches as large as those of a network that learns from a set, consecutive parts of a permutation of all.

    So it is for rounds of any size: where one ends and another begins, nothing changes.
    """
    return task.on_real_images(batch=min(task.batch, task.per_class * task.data.classes))


def with_replacement(task: CondensedImages) -> Train:
    """Rounds of one step, `per_class` images of each class drawn from all of its; otherwise the same."""
    task.check_classes(task.per_class)
    source = redrawn(task.per_class, augment=task.shifted if task.crop_padding else None)
    return task.learning_from(Bound(source, {'real': real_images(task)}))
