"""A job: what runs, where, and how its attempts ended, in `runs/launch/<id>/job.json`."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kdjax.errors import UserError, unknown

ROOT = pathlib.Path('runs/launch')
"""Below the folder that the command is given in."""

ID = re.compile(r'[a-z]([a-z0-9-]{0,28}[a-z0-9])?')


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One start of the command; times are seconds since 1970, `code` None while it runs."""

    started: float
    ended: float | None = None
    code: int | None = None


@dataclasses.dataclass(frozen=True)
class Job:
    """`handle` is what the place knows it by (process ids, the number of a Slurm job)."""

    id: str
    where: str
    command: tuple[str, ...]
    options: Mapping[str, Any]
    attempts: tuple[Attempt, ...] = ()
    handle: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def folder(self) -> pathlib.Path:
        return ROOT / self.id

    @property
    def resource(self) -> str:
        """Its name at the place: at most 36 letters, digits and hyphens, which Kubernetes and Google Cloud accept."""
        return f'kdjax-{self.id}'

    @property
    def stopped(self) -> pathlib.Path:
        """A file that is there once somebody asked to stop: no retry after it, until the job is submitted again."""
        return self.folder / 'stopped'

    def started(self) -> Job:
        return dataclasses.replace(self, attempts=(*self.attempts, Attempt(round(time.time(), 3))))

    def ended(self, code: int) -> Job:
        *before, last = self.attempts
        last = dataclasses.replace(last, ended=round(time.time(), 3), code=code)
        return dataclasses.replace(self, attempts=(*before, last))

    def with_handle(self, **handle: Any) -> Job:
        return dataclasses.replace(self, handle={**self.handle, **handle})

    def save(self) -> Job:
        """Write the state: whole or not at all, whatever happens meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / 'job.json', json.dumps(dataclasses.asdict(self), indent=1) + '\n')
        return self


def write_whole(path: pathlib.Path, text: str) -> None:
    """Replace a file by another in one step."""
    draft = path.with_name(f'.{path.name}.{os.getpid()}')
    draft.write_text(text)
    draft.replace(path)


def new_id(command: Sequence[str], now: time.struct_time) -> str:
    """`kdjax run logits/kd ...` -> `kd-1124-153000`."""
    is_run = len(command) > 2 and pathlib.Path(command[0]).name == 'kdjax'
    word = pathlib.Path(command[2] if is_run else command[0]).stem
    slug = re.sub(r'[^a-z0-9]+', '-', word.lower()).strip('-')[:16].rstrip('-')
    slug = slug if slug[:1].isalpha() else f'job-{slug}'.rstrip('-')
    return f'{slug}-{time.strftime("%m%d-%H%M%S", now)}'


def open_job(where: str, id: str, command: Sequence[str], options: Mapping[str, Any]) -> Job:
    """A new job, or, where one has this id, the same job for another attempt.

    Raises:
        UserError: the id is no name, or belongs to another command or place.
    """
    id = id or new_id(command, time.localtime())
    if not ID.fullmatch(id):
        raise UserError(
            f"--id '{id}' is no name that every place accepts; give at most 30 lower-case letters, digits and "
            f'hyphens, the first a letter'
        )
    fresh = Job(id, where, tuple(command), options)
    if not (fresh.folder / 'job.json').exists():
        return fresh
    known = load(fresh.folder)
    for name, asked, had in (('place', where, known.where), ('command', fresh.command, known.command)):
        if asked != had:
            raise UserError(
                f"--id '{id}' belongs to another {name} ({_text(had)}, not {_text(asked)}) in {fresh.folder}; choose "
                'another --id, or give the first command again to go on with it'
            )
    return dataclasses.replace(known, options=options)


def _text(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else shlex.join(value)


def load(folder: pathlib.Path) -> Job:
    """Read a job's state.

    Raises:
        UserError: the file is not a job's.
    """
    path = folder / 'job.json'
    try:
        said = json.loads(path.read_text())
        said['command'] = tuple(said['command'])
        said['attempts'] = tuple(Attempt(**attempt) for attempt in said['attempts'])
        return Job(**said)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a job's state ({error}); move it away, runs are not touched by that") from error


def jobs_at(where: str) -> list[Job]:
    """Every job of a place that was submitted from this folder."""
    found = [load(path.parent) for path in sorted(ROOT.glob('*/job.json'))]
    return [job for job in found if job.where == where]


def named(where: str, id: str) -> Job:
    """The job of a place that has this id.

    Raises:
        UserError: there is none.
    """
    known = {job.id: job for job in jobs_at(where)}
    if id not in known:
        raise unknown(f'{where} job', id, known)
    return known[id]
