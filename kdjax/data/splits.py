"""Fixed stratified splits: one order of the examples, and every split and subset an interval of it."""

from __future__ import annotations

import numpy as np

from kdjax.errors import UserError

SPLIT_SEED = 20240229
RULE = f'stratified order 1, philox seed {SPLIT_SEED}'
"""Part of every data set's identity. To change the rule is to change all data."""


def stratified_order(labels: np.ndarray) -> np.ndarray:
    """A permutation of which every interval holds the classes in their overall proportions, within rounding.

    The r-th example (at random) of a class with c examples gets the place (r + 1/2) / c; examples are sorted
    by place, ties at random. Returns int64 [N]. Randomness is the raw Philox stream, which NumPy promises to
    keep.
    """
    draws = np.random.Philox(key=SPLIT_SEED).random_raw(2 * len(labels)).reshape(2, -1)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        shuffled = members[np.argsort(draws[0, members], kind='stable')]
        place[shuffled] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((draws[1], place))


def carve(labels: np.ndarray, sizes: dict[str, int], *, name: str) -> dict[str, np.ndarray]:
    """Consecutive intervals of the stratified order: `carve(y, {'train': 1000, 'test': 500})` -> indices.

    Raises `UserError` where the sizes add up to more than there is.
    """
    if sum(sizes.values()) > len(labels):
        raise UserError(f"data set '{name}' has {len(labels)} examples, fewer than its splits need: {sizes}")
    ends = np.cumsum(list(sizes.values()))
    pieces = np.split(stratified_order(labels)[: ends[-1]], ends[:-1])
    return dict(zip(sizes, pieces, strict=True))


def train_interval(available: int, wanted: int | None, classes: int, *, name: str) -> slice:
    """The first `wanted` of a train split in stratified order: smaller subsets lie inside larger ones."""
    if wanted is None:
        return slice(0, available)
    if not classes <= wanted <= available:
        limits = f'{classes} (one for each class) to {available}'
        raise UserError(f"train_examples={wanted} of data set '{name}': choose from {limits}")
    return slice(0, wanted)
