"""What the compiled steps read: a split in memory goes to the device once, one on disk chunk by chunk."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from kdjax.data.batches import batch_indices, host_batches
from kdjax.data.dataset import Source


class Feed:
    """The training data of one run: `chunk(first_step, steps)` -> (data, rows), a function of the seed and the step."""

    def __init__(self, source: Source, *, batch: int, seed: int, chunk: int):
        self.source, self.batch, self.seed, self.size = source, batch, seed, chunk
        self._resident = None if source.arrays is None else jax.device_put(source.arrays)

    def example(self) -> dict[str, Any]:
        """A batch, for shapes."""
        return self.source.take(self.rows(0, 1)[0])

    def rows(self, first_step: int, steps: int) -> np.ndarray:
        """Indices `[steps, batch]` into the split."""
        return batch_indices(len(self.source), batch=self.batch, seed=self.seed, first_step=first_step, steps=steps)

    def chunks(self, boundaries: list[int]) -> Iterator[tuple[int, Any, np.ndarray]]:
        """(end, data, rows) for each interval between boundaries, read ahead where the data is on disk."""
        spans = list(itertools.pairwise(boundaries))
        if self._resident is not None:
            for first, end in spans:
                yield end, self._resident, self.rows(first, end - first)
            return
        batches = host_batches(self.source, self.rows(boundaries[0], boundaries[-1] - boundaries[0]))
        for first, end in spans:
            yield end, *self._stack([next(batches) for _ in range(end - first)])

    def _stack(self, batches: list[dict[str, np.ndarray]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        padded = batches + [batches[-1]] * (self.size - len(batches))
        data = jax.tree.map(lambda *fields: np.concatenate(fields), *padded)
        rows = np.arange(self.size * self.batch, dtype=np.int32).reshape(self.size, self.batch)
        return data, rows[: len(batches)]
