"""When nothing moves for too long: say where every thread is, and end."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pathlib
import threading
import time
from types import TracebackType

HANG = 70
"""The exit code of a hang."""

STANDARD_ERROR = 2


class Watchdog:
    """Ends the process with exit code 70 if `beat` is not called for `seconds` while it is entered; 0 never ends it.

    The stacks of all threads go to standard error and to `hang-PID.txt` in the folder.
    """

    def __init__(self, seconds: float, folder: pathlib.Path):
        self.seconds, self.folder = seconds, folder
        self._last = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name='kdjax-watchdog', daemon=True)

    def __enter__(self) -> Watchdog:
        self.beat()
        if self.seconds > 0:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def beat(self) -> None:
        """Something was done."""
        self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self.seconds / 4)):
            if time.monotonic() - self._last > self.seconds:
                self._end()

    def _end(self) -> None:
        path = self.folder / f'hang-{os.getpid()}.txt'
        line = f'kdjax: no progress for {self.seconds:g} s: the stacks of all threads follow, and are in {path}\n'
        os.write(STANDARD_ERROR, line.encode())
        faulthandler.dump_traceback(file=STANDARD_ERROR, all_threads=True)
        with contextlib.suppress(OSError), path.open('w') as file:
            faulthandler.dump_traceback(file=file, all_threads=True)
        os._exit(HANG)
