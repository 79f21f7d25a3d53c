"""Arms of a fair comparison: one recipe for every set, baselines of the same size, real images at equal steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from kdjax.stage import Train
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.methods import METHODS, method

BASELINES = ('random', 'k_means')
"""At the size of every set that is compared."""

RS2 = 'rs2'
"""The arm of all real images, as many steps: matched in compute, not in storage."""

PLAIN = '_plain'
"""Ends the name of an arm without augmentation."""


def by_size(task: CondensedImages, names: Sequence[str], sizes: Sequence[int]) -> dict[str, Train]:
    """Arms `METHOD_SIZE`, the baselines among them, and `rs2`. Raises UserError on what cannot be made."""
    arms: dict[str, Train] = {}
    made_by = {name: method(name) for name in (*BASELINES, *names)}
    task.check_classes(max(sizes))
    for size in sizes:
        sized = task.at(size)
        made = {name: make(sized) for name, make in made_by.items()}
        arms |= {f'{name}_{size}': sized.measured(one) for name, one in made.items()}
    return {**arms, RS2: task.on_real_images()}


def beside_baselines(task: CondensedImages, name: str, made: Made) -> dict[str, Train]:
    """Arms of one set and the baselines of its size, and of both the set and random images without augmentation."""
    task.check_classes(task.per_class)
    plain = dataclasses.replace(task, crop_padding=0, transfer=())
    plain.share(task)
    compared = {name: made} | {n: METHODS[n](task) for n in BASELINES}
    arms = {n: task.measured(one) for n, one in compared.items()} | {RS2: task.on_real_images()}
    return arms | {n + PLAIN: plain.measured(compared[n]) for n in dict.fromkeys((name, 'random'))}
