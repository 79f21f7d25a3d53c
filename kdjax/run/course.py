"""What a run remembers besides its state: the metrics that are in no row yet, the order of its data, its seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from kdjax.algorithms.algorithm import State
from kdjax.run import diverged
from kdjax.run.skipping import SKIPPED

MOST_SKIPS = 10
"""Steps in a row that may be skipped; the last of so many ends the run."""

METRIC, CURVE = 'metric/', 'curve/'


class Course:
    """Metrics stay on the device until someone asks, and are checked when they are fetched.

    order: how often the run was rolled back, and `why` the last time; its data then comes in another order. seconds:
    trained so far. curves: what was measured on the way, by name, with the steps under `step`.
    `arrays()` of one process and `load()` of the next give the rows that one process would have written.
    """

    def __init__(self) -> None:
        self.order, self.seconds, self.skips, self.why = 0, 0.0, 0, ''
        self.curves: dict[str, list[float]] = {'step': []}
        self._pending: list[tuple[int, Any]] = []
        self._fetched: list[dict[str, np.ndarray]] = []

    def seed(self, seed: int) -> int:
        """The seed of the data: the run's own until the first roll-back."""
        if not self.order:
            return seed
        return int.from_bytes(hashlib.sha256(f'{seed} order {self.order}'.encode()).digest()[:8], 'big')

    def roll_back(self, why: str) -> None:
        """Forget what was measured, until `load` says what was known at the checkpoint; the order is a new one."""
        self.order, self.skips, self.why = self.order + 1, 0, why
        self._pending.clear()
        self._fetched = []
        self.curves.clear()
        self.curves['step'] = []

    def add(self, first_step: int, log: Any) -> None:
        """Metrics of some steps, still on the device: each an array `[steps]` or as many scalars."""
        self._pending.append((first_step, log))

    def settle(self, state: State, batch_at: Callable[[int], Any]) -> None:
        """Wait for the steps so far; raise `Diverged` if one is not finite, or too many in a row were skipped.

        Metrics of several seeds are `[steps, seeds]`, and rows are means over them too.
        """
        for first_step, log in self._pending:
            metrics = {name: _plain(np.stack(values)) for name, values in jax.device_get(log).items()}
            shape = next(iter(metrics.values())).shape
            if len(shape) > 1:
                diverged.check_each(metrics, first_step, state=state, batch_at=batch_at, seeds=shape[1])
            else:
                diverged.check(metrics, first_step, state=state, batch_at=batch_at)
            self._count_skips(metrics.get(SKIPPED), first_step)
            self._fetched.append(metrics)
        self._pending.clear()

    def _count_skips(self, skipped: np.ndarray | None, first_step: int) -> None:
        for offset, skip in enumerate(() if skipped is None else skipped):
            self.skips = self.skips + 1 if skip else 0
            if self.skips >= MOST_SKIPS:
                raise diverged.Diverged(
                    f'step {first_step + offset}: {MOST_SKIPS} steps in a row were skipped because they were not '
                    'finite. Remedy: lower the learning rate, clip gradients, or check the data'
                )

    def row(self) -> dict[str, float]:
        """The mean of every metric over the steps since the last row that were not skipped; and the share skipped."""
        fetched, self._fetched = self._fetched, []
        values = {name: np.concatenate([m[name] for m in fetched]) for name in fetched[0]}
        skipped = values.pop(SKIPPED, None)
        if skipped is None:
            return {name: _mean(v) for name, v in values.items()}
        counted = skipped == 0
        means = {name: _mean(v[counted]) for name, v in values.items()} if counted.any() else {}
        return means | {SKIPPED: _mean(skipped)}

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, after `settle`, to be saved beside the state."""
        names = self._fetched[0] if self._fetched else ()
        pending = {METRIC + name: np.concatenate([m[name] for m in self._fetched]) for name in names}
        curves = {CURVE + name: np.asarray(values, np.float64) for name, values in self.curves.items()}
        counts = {name: np.asarray(getattr(self, name)) for name in ('order', 'skips', 'seconds')}
        return pending | curves | counts

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what was saved; an order that is further along stays."""
        pending = _under(METRIC, arrays)
        self._fetched = [pending] if pending else []
        self.curves |= {name: values.tolist() for name, values in _under(CURVE, arrays).items()}
        self.curves['step'] = [int(step) for step in self.curves['step']]
        self.order, self.skips = max(self.order, int(arrays['order'])), int(arrays['skips'])
        self.seconds = max(self.seconds, float(arrays['seconds']))


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64))


def _plain(values: np.ndarray) -> np.ndarray:
    """Types that NumPy alone cannot write become float32, which holds them exactly."""
    return values.astype(np.float32) if values.dtype.kind == 'V' else values
