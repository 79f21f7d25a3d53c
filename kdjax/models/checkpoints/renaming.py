"""One table per family says which tensor of theirs is which of ours; both directions read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

Arrays = dict[str, Any]
"""By path (ours: `blocks/0/attention/q/kernel`) or by name (theirs)."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """theirs: its name. ours: paths; several lie side by side in it, along our last axis. turned: it is transposed."""

    theirs: str
    ours: tuple[str, ...]
    turned: bool = False

    def shape(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
        """Of theirs, from the shapes of ours."""
        first = shapes[self.ours[0]]
        joined = (*first[:-1], sum(shapes[path][-1] for path in self.ours))
        return joined[::-1] if self.turned else joined

    def to_ours(self, array: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
        ends = np.cumsum([shapes[path][-1] for path in self.ours])[:-1]
        parts = np.split(array.T if self.turned else array, ends, axis=-1)
        return dict(zip(self.ours, parts, strict=True))

    def to_theirs(self, ours: Arrays) -> np.ndarray:
        parts = [np.asarray(ours[path]) for path in self.ours]
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        return joined.T if self.turned else joined


def linear(theirs: str, *ours: str, bias: bool, turned: bool = True) -> list[Tensor]:
    """A linear layer; PyTorch's lie as `[outputs, inputs]`."""
    weight = Tensor(f'{theirs}.weight', tuple(f'{path}/kernel' for path in ours), turned)
    return [weight, *([Tensor(f'{theirs}.bias', tuple(f'{path}/bias' for path in ours))] if bias else [])]


def norm(theirs: str, ours: str, *, bias: bool) -> list[Tensor]:
    scale = Tensor(f'{theirs}.weight', (f'{ours}/scale',))
    return [scale, *([Tensor(f'{theirs}.bias', (f'{ours}/bias',))] if bias else [])]


def table(theirs: str, ours: str) -> Tensor:
    return Tensor(f'{theirs}.weight', (f'{ours}/table',))


def by_path(tree: Any) -> Arrays:
    """Leaves of nested dicts by their path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in leaves}


def nested(arrays: Arrays) -> dict[str, Any]:
    """The nested dicts whose leaves have these paths."""
    tree: dict[str, Any] = {}
    for path, leaf in arrays.items():
        *folders, name = path.split('/')
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = leaf
    return tree
