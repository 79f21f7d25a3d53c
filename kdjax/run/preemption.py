"""Being asked to stop: the first signal lets the loop finish its chunk and save, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, TracebackType

from kdjax.run.group import distributed

PREEMPTED = 75
"""The exit code that means: run the same command again. What shells call EX_TEMPFAIL."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Preempted(BaseException):
    """Stopped because asked to; what was complete is saved. No error, so no `except Exception` may take it."""


class Preemption:
    """Listens to SIGTERM and SIGINT while it is entered.

    Between `hold()` and `release()` a signal waits for someone to look at `asked()`; at other times nothing would look
    for long, and it raises `Preempted` where the main thread is. doing: what is done before the end, for people.
    """

    def __init__(self, doing: str = 'finishing the step and saving') -> None:
        self._doing = doing
        self._asked = self._held = False
        self._undo = ExitStack()

    def __enter__(self) -> Preemption:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._undo.callback(signal.signal, number, signal.signal(number, self._hear))
            self._undo.enter_context(_second_ends())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._undo.close()

    def asked(self) -> bool:
        """Where every process asks equally often, all get the same answer."""
        return distributed.preemption_reached() if distributed.active() else self._asked

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        """Nobody looks any more. Raises `Preempted` if a signal came since somebody last did."""
        self._held = False
        if self._asked:
            raise Preempted('asked to stop after the last step; it is saved')

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            return
        name = signal.Signals(number).name
        self._asked = True
        if not self._held:
            raise Preempted(f'{name} before or after training; what was finished is kept')
        distributed.preempt()
        _write(f'kdjax: {name}: {self._doing}; a second signal ends at once\n')


@contextmanager
def _second_ends() -> Iterator[None]:
    """The second of the signals ends the process, from a thread: a handler waits until the main thread leaves XLA."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    counting = threading.Thread(target=_end_at_second, args=(reading,), name='second signal', daemon=True)
    counting.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        counting.join()
        os.close(reading)


def _end_at_second(reading: int) -> None:
    heard = 0
    while got := os.read(reading, 1):
        heard += got[0] in SIGNALS
        if heard == 2:
            _write(f'kdjax: {signal.Signals(got[0]).name} again: ending at once; run the same command to go on\n')
            os._exit(PREEMPTED)


def _write(line: str) -> None:
    """To standard error, past Python's buffers: a handler may have interrupted a print."""
    os.write(2, line.encode())
