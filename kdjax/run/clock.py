"""When a checkpoint is due by the clock: at the same step in every process, though no two clocks agree."""

from __future__ import annotations

import time
from collections.abc import Callable

from kdjax.run.group import distributed

LOOKS = 100
"""How often the clock is looked at, at least, in the time between two saves."""


class Clock:
    """Says every `seconds` that a save is due; never if that is 0.

    The steps at which anyone looks at a clock are agreed, and what is seen there is what rank 0 sees.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic):
        self._seconds, self._clock = seconds, clock
        self._last = self._looked = clock()
        self._step = self._next = 0

    def due(self, step: int) -> bool:
        if not self._seconds or step < self._next:
            return False
        said, self._next = distributed.decide(self._look(step), 'clock')
        return said

    def _look(self, step: int) -> tuple[bool, int]:
        """Whether it is time, and the step at which to look again."""
        now = self._clock()
        pace = max(now - self._looked, 1e-6) / max(step - self._step, 1)
        self._looked, self._step = now, step
        return now - self._last >= self._seconds, step + max(1, int(self._seconds / LOOKS / pace))

    def saved(self, step: int) -> None:
        """A save has just been made, whatever for."""
        self._last = self._looked = self._clock()
        self._step = step
