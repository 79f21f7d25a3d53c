"""Batches as a function of (seed, step): nothing to save, and the same on any number of hosts."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from kdjax.data.dataset import Batch, Source
from kdjax.errors import UserError


@functools.lru_cache(maxsize=8)
def epoch_order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch: int32 [examples], a function of (examples, seed, epoch) alone.

    Sorts the raw Philox stream keyed by (seed, epoch), which NumPy promises never to change. Read-only, since
    cached.
    """
    draws = np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64)).random_raw(examples)
    order = np.argsort(draws, kind='stable').astype(np.int32)
    order.flags.writeable = False
    return order


def batch_indices(examples: int, *, batch: int, seed: int, first_step: int, steps: int) -> np.ndarray:
    """Which examples steps first_step .. first_step + steps - 1 see: int32 [steps, batch].

    Epochs are concatenated and every epoch is a fresh permutation; a batch may straddle epochs, and one
    larger than the data set holds several. Step k reads the positions k * batch .. (k + 1) * batch - 1 of
    that endless sequence.
    Raises `UserError` for an empty data set, a batch below 1 or a negative step.
    """
    if examples < 1 or batch < 1:
        raise UserError(f'batch={batch} of {examples} examples: both must be at least 1')
    if first_step < 0 or steps < 0:
        raise UserError(f'first_step={first_step}, steps={steps}: neither may be negative')
    start, stop = first_step * batch, (first_step + steps) * batch
    if start == stop:
        return np.empty((0, batch), np.int32)
    epochs = range(start // examples, (stop - 1) // examples + 1)
    sequence = np.concatenate([epoch_order(examples, seed, epoch) for epoch in epochs])
    offset = start - epochs.start * examples
    return sequence[offset : offset + stop - start].reshape(steps, batch)


def evaluation_indices(examples: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Every example once, in order: indices int32 [batches, batch] and `where` bool [batches, batch].

    The last batch is filled up with its last example, where `where` is False: one shape, so one compilation.
    """
    if examples < 1 or batch < 1:
        raise UserError(f'batch={batch} of {examples} examples: both must be at least 1')
    batches = -(-examples // batch)
    places = np.arange(batches * batch, dtype=np.int32).reshape(batches, batch)
    return np.minimum(places, np.int32(examples - 1)), places < examples


def evaluation_batches(source: Source, batch: int) -> Iterator[Batch]:
    """The whole split in batches of one size, with `where` [batch] False on padding."""
    for indices, where in zip(*evaluation_indices(len(source), batch), strict=True):
        yield source.take(indices) | {'where': where}


def host_batches(source: Source, indices: np.ndarray, *, prefetch: int = 2) -> Iterator[Batch]:
    """One batch for each row of `indices` [steps, batch], in order; grain reads `prefetch` rows ahead."""
    import grain

    rows = grain.MapDataset.range(len(indices)).map(lambda row: source.take(indices[row]))
    return iter(rows.to_iter_dataset(grain.ReadOptions(num_threads=prefetch, prefetch_buffer_size=prefetch)))
