"""Processes of one machine that live and die together."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from launch.exit_codes import DONE, NOT_REPRODUCED, PREEMPTED, as_exit_code, worst

Signal = tuple[float, signal.Signals]


class Group:
    """One process for each environment. When one fails the others are ended, SIGTERM first; a signal reaches all.

    Args:
        command: what each process runs.
        environments: one for each rank.
        line: called with every line that a process writes, as `(rank, text)`, from several threads.
        grace: seconds between SIGTERM and SIGKILL after a failure.
        save_time: seconds that the processes have to save and end, once one was asked to stop.
    """

    def __init__(
        self,
        command: Sequence[str],
        environments: Sequence[Mapping[str, str]],
        line: Callable[[int, str], None],
        *,
        grace: float,
        save_time: float,
    ):
        self._line, self._grace, self._save_time = line, grace, save_time
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._schedule: list[Signal] = []
        self._codes: dict[int, int] = {}
        self._causes: list[int] = []
        self.asked = self._told = False
        self._threads: list[threading.Thread] = []
        self._processes: list[subprocess.Popen[str]] = []
        for rank, environment in enumerate(environments):
            self._start(rank, command, environment)

    def _start(self, rank: int, command: Sequence[str], environment: Mapping[str, str]) -> None:
        process = subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors='replace', start_new_session=True,
        )  # fmt: skip
        self._processes.append(process)
        for work in (self._read, self._reap):
            self._threads.append(threading.Thread(target=work, args=(rank, process), daemon=True))

    def _read(self, rank: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for text in lines:
                self._line(rank, text.rstrip('\n'))

    def _reap(self, rank: int, process: subprocess.Popen[str]) -> None:
        code = as_exit_code(process.wait())
        self._events.put(lambda: self._note(rank, code))

    @property
    def pids(self) -> list[int]:
        """Process ids, by rank; each leads a process group of its own."""
        return [process.pid for process in self._processes]

    @property
    def codes(self) -> dict[int, int]:
        """Exit codes by rank, of those that ended."""
        return dict(sorted(self._codes.items()))

    def forward(self, number: int) -> None:
        """Hand a signal on to everyone; after `save_time` those that are left are killed. For signal handlers."""
        self.asked = True
        self._events.put(lambda: self._hand_on(number))

    def _hand_on(self, number: int) -> None:
        self._plan(time.monotonic() + self._save_time)
        self._send(number)

    def wait(self) -> int:
        """Read what they write until all have ended; the exit code: the worst of those that ended of themselves."""
        for thread in self._threads:
            thread.start()
        while len(self._codes) < len(self._processes):
            self._hear()
            while self._schedule and self._schedule[0][0] <= time.monotonic():
                self._told = self._told or not self.asked
                self._send(self._schedule.pop(0)[1])
        self._sweep()
        return worst(self._causes)

    def _hear(self) -> None:
        """Wait for an end, or for the time of the next signal; note all that have ended by then."""
        pause = max(0.0, self._schedule[0][0] - time.monotonic()) if self._schedule else 1.0
        with contextlib.suppress(queue.Empty):
            self._events.get(timeout=min(pause, 1.0))()
            while True:
                self._events.get_nowait()()

    def _note(self, rank: int, code: int) -> None:
        self._codes[rank] = code
        if not self._told:
            self._causes.append(code)
        now = time.monotonic()
        if code == PREEMPTED:
            self._plan(now + self._save_time)
        elif code not in (DONE, NOT_REPRODUCED):
            self._plan(now)

    def _plan(self, end: float) -> None:
        """SIGTERM at `end`, SIGKILL later; SIGKILL alone once all had a signal, as a second one means `at once`."""
        planned = [] if self.asked else [(end, signal.SIGTERM)]
        planned.append((end + self._grace, signal.SIGKILL))
        if not self._schedule or planned[-1] < self._schedule[-1]:
            self._schedule = planned
        elif self.asked:
            self._schedule = self._schedule[-1:]

    def _send(self, number: int) -> None:
        for rank, process in enumerate(self._processes):
            if rank not in self._codes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)

    def _sweep(self) -> None:
        """Take along what the processes themselves had started, and their last lines."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        for thread in self._threads:
            thread.join(timeout=5)
