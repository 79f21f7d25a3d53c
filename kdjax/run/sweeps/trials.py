"""Running the trials of a sweep on this machine: each in a process of its own, several at once if asked."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from kdjax.errors import UserError
from kdjax.run import lock
from kdjax.run.preemption import PREEMPTED
from kdjax.run.sweeps.outcomes import Outcome
from kdjax.run.sweeps.plan import Trial

PROGRAM = (sys.executable, '-m', 'kdjax.cli.main')
"""The command `kdjax` of this very environment."""

LOG = 'output.log'
DEFECT = 'kdjax: this is a defect of kdjax'
POLL_SECONDS = 0.05
GROUP = ('KDJAX_COORDINATOR', 'KDJAX_PROCESSES', 'KDJAX_PROCESS', 'KDJAX_DISTRIBUTED')
"""What names a group of processes: a trial is none of the group that the sweep may stand in."""

Ended = Callable[[Trial, Outcome], None]


@dataclasses.dataclass(frozen=True)
class Running:
    """A trial under way, and where its output of this time begins in its log."""

    trial: Trial
    process: subprocess.Popen
    log: pathlib.Path
    begins: int

    def outcome(self) -> Outcome:
        code = self.process.returncode
        code = 128 - code if code < 0 else code
        return Outcome(code, last_words(self._said()) if code else '')

    def _said(self) -> str:
        with self.log.open('rb') as file:
            file.seek(self.begins)
            return file.read().decode(errors='replace')


def run_here(
    trials: Iterable[Trial], root: pathlib.Path, *, jobs: int, asked: Callable[[], bool], ended: Ended
) -> None:
    """Run the trials in order, `jobs` at a time; `ended` hears of each. A failing one stops no other.

    asked: polled; when it says yes, nothing more is started, and what runs is told once to save and end.
    """
    waiting, running, told = deque(trials), list[Running](), False
    try:
        while running or (waiting and not asked()):
            while waiting and len(running) < jobs and not asked():
                _begin(waiting.popleft(), root, running, ended)
            if asked() and not told:
                told = True
                _end(running)
            running[:] = [one for one in running if not _ended(one, ended)]
            time.sleep(POLL_SECONDS if running else 0)
    finally:
        _end(running)


def _begin(trial: Trial, root: pathlib.Path, running: list[Running], ended: Ended) -> None:
    folder = root / trial.folder
    if _in_use(folder):
        ended(trial, Outcome(PREEMPTED, 'another process is at it'))
    else:
        running.append(_start(trial, folder))


def _end(running: Iterable[Running]) -> None:
    for one in running:
        if one.process.poll() is None:
            one.process.terminate()


def _in_use(folder: pathlib.Path) -> bool:
    """Whether a process holds the folder, such as one that outlived an earlier sweep."""
    if not (folder / lock.NAME).exists():
        return False
    try:
        with lock.hold(folder):
            return False
    except UserError:
        return True


def _start(trial: Trial, folder: pathlib.Path) -> Running:
    """In a session of its own, so that a Ctrl-C reaches the sweep alone, which passes it on once."""
    log = folder / LOG
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with log.open('ab') as output:
            begins = output.tell()
            process = subprocess.Popen(
                [*PROGRAM, *trial.command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(os.environ),
                start_new_session=True,
            )
            return Running(trial, process, log, begins)
    except OSError as error:
        raise UserError(f'{folder} cannot be written ({error}): choose another place with --out') from error


def _environment(around: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in around.items() if name not in GROUP}


def _ended(one: Running, ended: Ended) -> bool:
    if one.process.poll() is None:
        return False
    ended(one.trial, one.outcome())
    return True


def last_words(said: str) -> str:
    """The line that says what went wrong: the last that is not kdjax speaking of its own defect."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(DEFECT)]
    own = [line for line in lines if line.startswith('kdjax: ')]
    return (own or lines or ['it said nothing'])[-1].removeprefix('kdjax: ').removeprefix('launch: ')
