"""What the compiled steps read: a split in memory goes to the devices once, one on disk chunk by chunk."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from kdjax.data.batches import batch_indices, host_batches
from kdjax.data.dataset import Source
from kdjax.run.layout import Layout


class Feed:
    """The training data of one run, a function of the seed and the step, on any number of devices and processes.

    Of several seeds, the batches of a step lie one behind the other, `batch` examples each.
    """

    def __init__(self, source: Source, *, batch: int, seeds: Sequence[int], chunk: int, layout: Layout):
        layout.check_batch(batch * len(seeds))
        self.source, self.seeds, self.size, self.layout = source, tuple(seeds), chunk, layout
        self.batch = batch * len(seeds)
        self._of_a_seed = batch
        self._resident = None if source.arrays is None else layout.place(source.arrays, layout.replicated)

    def example(self) -> dict[str, Any]:
        """A batch, for shapes."""
        return self.source.take(self.rows(0, 1)[0])

    def rows(self, first_step: int, steps: int) -> np.ndarray:
        """Indices `[steps, seeds * batch]` into the split."""
        draw = functools.partial(batch_indices, len(self.source), batch=self._of_a_seed)
        return np.concatenate([draw(seed=seed, first_step=first_step, steps=steps) for seed in self.seeds], axis=1)

    def chunks(self, boundaries: list[int]) -> Iterator[tuple[int, Any, np.ndarray]]:
        """(end, data, rows) for each interval between boundaries: step i of it reads `data[rows[i]]`.

        From memory, `rows[i]` are the indices of a batch; from disk, read ahead, it is the batch's place in the chunk.
        """
        spans = list(itertools.pairwise(boundaries))
        if self._resident is not None:
            for first, end in spans:
                yield end, self._resident, self.rows(first, end - first)
            return
        own = self._own_columns()
        batches = host_batches(self.source, self.rows(boundaries[0], boundaries[-1] - boundaries[0])[:, own])
        for first, end in spans:
            yield end, self._stack([next(batches) for _ in range(end - first)]), np.arange(end - first, dtype=np.int32)

    def _own_columns(self) -> np.ndarray:
        """Which examples of a batch this process has to read."""
        parts = self.layout.batch().addressable_devices_indices_map((self.batch,)).values()
        return np.unique(np.concatenate([np.arange(self.batch)[index] for index in parts]))

    def _stack(self, batches: list[dict[str, np.ndarray]]) -> dict[str, jax.Array]:
        padded = batches + [batches[-1]] * (self.size - len(batches))

        def place(*fields: np.ndarray) -> jax.Array:
            local = np.stack(fields)
            shape = (self.size, self.batch, *local.shape[2:])
            return jax.make_array_from_process_local_data(self.layout.batch(axis=1), local, shape)

        return jax.tree.map(place, *padded)
