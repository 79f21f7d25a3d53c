"""Arms of a fair comparison: one recipe for every set, baselines of the same size, real images at equal steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from kdjax.stage import Train
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.arms import arms_at
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.methods import METHODS
from kdjax.tasks.condensing.repeated import without_replacement

BASELINES = ('random', 'k_means')
"""At the size of every set that is compared."""

RS2 = 'rs2'
"""All real images for as many steps, in minibatches as large as those of a set: matched in compute, not in storage."""

PLAIN = '_plain'
"""Ends the name of an arm without augmentation."""


def by_size(task: CondensedImages, names: Sequence[str], sizes: Sequence[int]) -> dict[str, Train]:
    """Arms `METHOD_SIZE`, baselines and RS2 among them. Raises UserError on what cannot be made."""
    task.check_classes(max(sizes))
    return arms_at(task, sizes, *dict.fromkeys((*BASELINES, *names)), **{RS2: without_replacement})


def beside_baselines(task: CondensedImages, name: str, made: Made) -> dict[str, Train]:
    """Arms of one set and the baselines of its size, and of both the set and random images without augmentation."""
    task.check_classes(task.per_class)
    plain = dataclasses.replace(task, crop_padding=0, transfer=())
    plain.share(task)
    compared = {name: made} | {n: METHODS[n](task) for n in BASELINES}
    arms = {n: task.measured(one) for n, one in compared.items()} | {RS2: without_replacement(task)}
    return arms | {n + PLAIN: plain.measured(compared[n]) for n in dict.fromkeys((name, 'random'))}
