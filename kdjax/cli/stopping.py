"""A verification that is asked to stop: what is in the store stays, what is under way is made again the next time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from kdjax.cli.progress import Advance
from kdjax.run.fit import Ask, Events
from kdjax.run.preemption import Preempted, Preemption


class Stopping:
    """Looks for a signal between chunks of steps, and between artifacts, as they are announced.

    advance, say: of `progress`. While a stage trains or is stored a signal waits; at other times it ends at once.
    """

    def __init__(self, preemption: Preemption, advance: Advance, say: Callable[[str], None]):
        self._preemption, self._advance, self._say = preemption, advance, say
        self._done = self._of = 0
        self.events = Events(ask=self._ask)

    def advance(self, done: int, of: int, what: str) -> None:
        self._done, self._of = done, of
        self._preemption.release()
        self._advance(done, of, what)

    def say(self, line: str) -> None:
        self._preemption.release()
        self._say(line)

    def _ask(self, step: int) -> Ask:
        self._preemption.hold()
        return Ask.STOP if self._preemption.asked() else Ask.GO

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """`Preempted` says how many runs are kept."""
        try:
            yield
        except Preempted as stop:
            raise Preempted(f'{stop}; {self._done} of {self._of} runs are kept') from None
