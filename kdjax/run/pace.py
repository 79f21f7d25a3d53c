"""How far the device may run ahead of the loop: as far as a signal can wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from kdjax.run.group import distributed


class Pace:
    """Cuts chunks so that no more than about `seconds` of steps are ever under way.

    The first step compiles and the second is measured, so both go alone.
    """

    def __init__(self, chunk: int, *, seconds: float = 1.0, clock: Callable[[], float] = time.perf_counter):
        self.chunk, self.seconds, self._clock = chunk, seconds, clock
        self._allowed, self._ahead, self._compiled = 1, 0, False
        self._since = clock()

    def parts(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Rows `[steps, batch]` in pieces of at most `chunk` steps."""
        while len(rows):
            steps = min(self.chunk, self._allowed - self._ahead)
            yield rows[:steps]
            rows = rows[steps:]

    def keep(self, log: Any, steps: int) -> None:
        """Count steps that were dispatched; wait for them when they are as many as are allowed."""
        self._ahead += steps
        if self._ahead < self._allowed:
            return
        jax.block_until_ready(log)
        if self._compiled:
            elapsed = max(self._clock() - self._since, 1e-6)
            self._allowed = distributed.decide(max(1, int(self.seconds * self._ahead / elapsed)), 'pace')
        self._compiled = True
        self.rest()

    def rest(self) -> None:
        """Nothing is under way now; what passed since the last step is not to be counted."""
        self._ahead, self._since = 0, self._clock()
