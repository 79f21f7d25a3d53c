"""On this machine: N processes of M devices each, one group."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TextIO

from kdjax.errors import UserError
from launch import retry
from launch.group import Group
from launch.hands import Hands, tell
from launch.job import Attempt, Job
from launch.place import Place, Submit, at_least_one, show
from launch.port import HOST, checked_port, free_port
from launch.processes import alive, launcher_of, ranks_of

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

GROUP = ('KDJAX_COORDINATOR', 'KDJAX_PROCESSES', 'KDJAX_PROCESS', 'KDJAX_DISTRIBUTED')
"""Variables that this place alone decides on."""


@dataclasses.dataclass(frozen=True)
class Local(Submit):
    """N processes x M devices on this machine. The exit code is that of the rank that explains the others."""

    procs: int = 1
    """Processes."""
    devices: int | None = None
    """CPU devices of each process; left out, whatever JAX finds."""
    port: int | None = None
    """Where the processes meet; left out, a free one."""
    restarts: int = 0
    """Start again so many times after a preemption (75), a hang (70) or a death by signal; same run folder."""
    backoff: float = 5.0
    """Seconds before the first restart; doubles with each."""
    grace: float = 10.0
    """Seconds between SIGTERM and SIGKILL for the others when one fails."""
    save_time: float = 120.0
    """Seconds that all have to save and end after SIGTERM or Ctrl-C, before SIGKILL."""


def check(options: Local, command: Sequence[str]) -> None:
    at_least_one(procs=options.procs, devices=options.devices)
    if options.restarts < 0:
        raise UserError(f'--restarts {options.restarts} is less than none; give 0 or more')
    if options.port is not None:
        checked_port(options.port)


def environments(job: Job, options: Local, port: int) -> list[dict[str, str]]:
    """What each rank finds in its environment beside what is there already."""
    shared = {'KDJAX_LAUNCH_ID': job.id}
    if options.devices is not None:
        shared['KDJAX_DEVICES'] = str(options.devices)
    if options.procs == 1:
        return [shared]
    shared |= {'KDJAX_COORDINATOR': f'{HOST}:{port}', 'KDJAX_PROCESSES': str(options.procs)}
    return [{**shared, 'KDJAX_PROCESS': str(rank)} for rank in range(options.procs)]


def submit(job: Job, options: Local, hands: Hands) -> int:
    """Run the group to its end, and again as often as the policy says."""
    if hands.dry:
        return _say(job, options)
    if shutil.which(job.command[0]) is None:
        raise UserError(
            f"'{job.command[0]}' is not on the PATH of this machine; activate its environment, or give its whole path"
        )
    if launcher := launcher_of(job):
        raise UserError(
            f"job '{job.id}' is running (process {launcher}); wait for it, stop it with `python -m launch local stop "
            f'{job.id}`, or choose another --id'
        )
    return _Runner(job, options).run()


def _say(job: Job, options: Local) -> int:
    for own in environments(job, options, options.port or free_port()):
        print('run', *(f'{name}={value}' for name, value in own.items()), shlex.join(job.command))
    return 0


def _hangs_up() -> bool:
    """Does a closed terminal end this program? Not under nohup."""
    return signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


def _show(line: str) -> None:
    """A line on the terminal, or, from when on nobody reads it any more, nowhere."""
    try:
        sys.stdout.write(line)
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class _Runner:
    """One submission: its attempts, its log, the signals it hands on."""

    def __init__(self, job: Job, options: Local):
        self._job, self._options = job, options
        self._group: Group | None = None
        self._stop = threading.Event()
        self._heard = 0
        self._printing = threading.Lock()

    def run(self) -> int:
        self._job = self._job.with_handle(launcher=os.getpid(), ranks=[]).save()
        tell(f'{self._job.id}: logs in {self._job.folder / "log.txt"}')
        policy = retry.Policy(self._options.restarts, self._options.backoff)
        heard = [number for number in FORWARDED if number != signal.SIGHUP or _hangs_up()]
        before = {number: signal.signal(number, self._hear) for number in heard}
        try:
            return retry.attempts(policy, self._attempt, self._stop.wait)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._job = self._job.with_handle(launcher=None, ranks=[]).save()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._heard = signal.SIGTERM if number == signal.SIGHUP else number
        self._stop.set()
        if self._group is not None:
            self._group.forward(self._heard)

    def _attempt(self, attempt: int) -> int:
        options = self._options
        own = environments(self._job, options, options.port or free_port())
        inherited = {name: value for name, value in os.environ.items() if name not in GROUP}
        with (self._job.folder / 'log.txt').open('a') as log:
            self._group = Group(
                self._job.command, [inherited | added for added in own], self._writer(log),
                grace=options.grace, save_time=options.save_time,
            )  # fmt: skip
            if self._stop.is_set() and not self._group.asked:
                self._group.forward(self._heard)
            self._job = self._job.started().with_handle(ranks=self._group.pids).save()
            code = self._group.wait()
        self._job = self._job.ended(code).save()
        self._summary(code, self._group)
        return code

    def _writer(self, log: TextIO) -> Callable[[int, str], None]:
        def write(rank: int, text: str) -> None:
            line = f'[{rank}] {text}\n'
            with self._printing:
                log.write(line)
                log.flush()
                _show(line)

        return write

    def _summary(self, code: int, group: Group) -> None:
        if self._options.procs > 1 and set(group.codes.values()) != {code}:
            ranks = ', '.join(f'rank {rank}: {ended}' for rank, ended in group.codes.items())
            tell(f'exit code {code} ({ranks})')


def status(job: Job, hands: Hands) -> int:
    launcher, ranks = launcher_of(job), ranks_of(job)
    last = job.attempts[-1] if job.attempts else None
    if launcher:
        print(f'{job.id}: running; launcher {launcher}, ranks {_listed(ranks)}')
    elif ranks:
        print(f'{job.id}: its launcher is gone, ranks {_listed(ranks)} are not; see `cleanup`')
    elif last is None or last.code is None:
        print(f'{job.id}: lost with its launcher; submit the same again to go on')
    else:
        print(f'{job.id}: ended with exit code {last.code}')
    for number, attempt in enumerate(job.attempts, 1):
        print(f'  attempt {number}: {_outcome(attempt)}')
    return 0


def _listed(pids: Sequence[int]) -> str:
    return ' '.join(map(str, pids)) or '(none yet)'


def _outcome(attempt: Attempt) -> str:
    if attempt.ended is None:
        return 'no end on record'
    return f'exit code {attempt.code} after {attempt.ended - attempt.started:.1f} s'


def logs(job: Job, hands: Hands) -> int:
    return show(job.folder / 'log.txt', job)


def stop(job: Job, hands: Hands) -> int:
    launcher = launcher_of(job)
    pids = [launcher] if launcher else ranks_of(job)
    if not pids:
        print(f'{job.id} does not run')
    for pid in pids:
        _signal(pid, signal.SIGTERM, hands)
    return 0


def _signal(pid: int, number: signal.Signals, hands: Hands) -> None:
    print(f'{number.name} to process {pid}{" (dry run)" if hands.dry else ""}')
    if not hands.dry:
        os.kill(pid, number)


def leaked(jobs: Sequence[Job], hands: Hands) -> int:
    """Ranks whose launcher is gone."""
    lost = {job.id: ranks_of(job) for job in jobs if not launcher_of(job)}
    lost = {id: pids for id, pids in lost.items() if pids}
    for id, pids in lost.items():
        print(f'{id}: processes {_listed(pids)} without a launcher; `python -m launch local cleanup {id}` ends them')
    if not lost:
        print('nothing is left over')
    return 0


def remove(job: Job, hands: Hands) -> int:
    """End ranks without a launcher: SIGTERM, and SIGKILL to those left after ten seconds."""
    if launcher := launcher_of(job):
        raise UserError(f"job '{job.id}' is running (process {launcher}), nothing of it is left over; `stop` ends it")
    pids = ranks_of(job)
    for pid in pids:
        _signal(pid, signal.SIGTERM, hands)
    until = time.monotonic() + 10
    while not hands.dry and any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    for pid in ranks_of(job) if not hands.dry else ():
        _signal(pid, signal.SIGKILL, hands)
    print(f'{job.folder} and the run folder stay')
    return 0


PLACE = Place('local', Local, check, submit, status, logs, stop, leaked, remove)
