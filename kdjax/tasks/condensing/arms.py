"""Arms of an experiment on condensed sets: methods at several sizes of sets, from one task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kdjax.stage import Train
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.methods import method

Way = Callable[[CondensedImages], Made | Train]
"""A method, or a measured arm of its own (`repeated.without_replacement`)."""


def arms_at(task: CondensedImages, sizes: Sequence[int], *names: str, **others: Way) -> dict[str, Train]:
    """The measured arm `NAME_SIZE` of every method at every size (images of each class).

    names: of `methods.METHODS`; others: further ones, under the name that they are given here.
    Raises UserError on a name that no method has.
    """
    ways: dict[str, Way] = {**{name: method(name) for name in names}, **others}
    arms = {}
    for size in sizes:
        own = task.at(size)
        for name, way in ways.items():
            made = way(own)
            arms[f'{name}_{size}'] = own.measured(made) if isinstance(made, Made) else made
    return arms
