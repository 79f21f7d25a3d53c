"""What a way of running has to offer, and the options that all have."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from kdjax.errors import UserError
from launch.hands import Hands
from launch.job import Job

Verb = Callable[[Job, Hands], int]


@dataclasses.dataclass(frozen=True)
class Submit:
    """Options of a place where trying costs nothing."""

    id: str = ''
    """The job's name; the same id again goes on with the same job. Default: the experiment and the time."""
    dry_run: bool = False
    """Print what would be written and run, and do none of it."""

    @property
    def is_dry(self) -> bool:
        return self.dry_run


@dataclasses.dataclass(frozen=True)
class SubmitPaid:
    """Options of a place where machines are paid for: nothing happens without `--yes`."""

    id: str = ''
    """The job's name; the same id again goes on with the same job. Default: the experiment and the time."""
    yes: bool = False
    """Do it. Without it the plan is printed, and nothing is written, started or paid for."""
    dry_run: bool = False
    """Print the plan, whatever else is given."""

    @property
    def is_dry(self) -> bool:
        return self.dry_run or not self.yes


@dataclasses.dataclass(frozen=True)
class Place:
    """A way of running. `check` raises a UserError on options that contradict one another or the command."""

    name: str
    options: type
    check: Callable[[Any, Sequence[str]], None]
    submit: Callable[[Job, Any, Hands], int]
    status: Verb
    logs: Verb
    stop: Verb
    leaked: Callable[[Sequence[Job], Hands], int]
    """List what still exists at the place, of these jobs or of jobs that nobody remembers."""
    remove: Verb
    """Delete what a job still has at the place. Never a run folder."""


def at_least_one(**counts: int | None) -> None:
    """Raises a UserError that names the first count below 1; None is no count."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise UserError(f'--{name.replace("_", "-")} {count} makes no group; give 1 or more')


def outlives_the_machine(command: Sequence[str]) -> None:
    """Raises a UserError for a `kdjax run` that would begin anew on every machine."""
    is_run = len(command) > 1 and pathlib.Path(command[0]).name == 'kdjax' and command[1] == 'run'
    if is_run and not any(word == '--out' or word.startswith('--out=') for word in command):
        raise UserError(
            f'`{shlex.join(command)}` has no --out, so a machine that replaces a lost one would begin anew; add --out '
            'with a folder that outlives machines and that all of them see (NFS, or a mounted bucket)'
        )


def show(log: pathlib.Path, job: Job) -> int:
    """Print a log.

    Raises:
        UserError: there is none yet.
    """
    if not log.exists():
        raise UserError(f"job '{job.id}' has no log yet ({log}); it has not begun")
    with log.open() as lines:
        shutil.copyfileobj(lines, sys.stdout)
    return 0
