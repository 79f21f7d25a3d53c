"""`python -m launch WHERE [VERB] [options] -- COMMAND`: what each verb does is the same everywhere."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Sequence
from typing import Any

import tyro

from kdjax.errors import UserError, unknown
from launch.exit_codes import DONE, SIGNALLED, USER_ERROR
from launch.hands import Hands, tell
from launch.job import jobs_at, named, open_job
from launch.place import Place
from launch.places import PLACES, place

VERBS = {
    'submit': 'start the command, or go on with it (the default)',
    'status': 'how a job is, and how its attempts ended',
    'logs': 'what it wrote',
    'stop': 'end it as a preemption would: it saves, and submitting the same again goes on',
    'cleanup': 'list what still exists or runs; with an id, delete that. Run folders are never deleted',
}


@dataclasses.dataclass(frozen=True)
class Target:
    """Which job."""

    id: tyro.conf.Positional[str]
    """The job's id, as `submit` printed it."""
    dry_run: bool = False
    """Print what would be run, and run nothing."""


@dataclasses.dataclass(frozen=True)
class Cleanup:
    """What is left over."""

    id: tyro.conf.Positional[str] = ''
    """The job whose left-overs are deleted; without it they are only listed."""
    dry_run: bool = False
    """Print what would be run, and run nothing."""


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; the return value is the exit code."""
    try:
        return _dispatch(list(arguments))
    except UserError as error:
        tell(str(error))
        return USER_ERROR
    except KeyboardInterrupt:
        tell('interrupted; what runs elsewhere goes on there: see `status`, `stop`, `cleanup`')
        return SIGNALLED + signal.SIGINT
    except SystemExit as stop:  # the argument parser has spoken
        return DONE if stop.code in (0, None) else USER_ERROR


def _dispatch(arguments: list[str]) -> int:
    mine, command = _split(arguments)
    if not mine or mine[0] in ('-h', '--help'):
        return _usage(asked=bool(mine))
    where = place(mine.pop(0))
    verb = mine.pop(0) if mine and not mine[0].startswith('-') else 'submit'
    if verb not in VERBS:
        raise unknown('verb', verb, VERBS)
    if verb == 'submit':
        return _submit(where, mine, command)
    return _later(where, verb, mine)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our own words, and the command after the first `--`."""
    at = arguments.index('--') if '--' in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def _usage(asked: bool) -> int:
    print('usage: python -m launch WHERE [VERB] [options] -- COMMAND\n')
    print(f'  WHERE    {", ".join(PLACES)} (each has --help)')
    for name, about in VERBS.items():
        print(f'  {name:8} {about}')
    return DONE if asked else USER_ERROR


def _submit(where: Place, mine: list[str], command: list[str]) -> int:
    options: Any = tyro.cli(where.options, args=mine, prog=f'python -m launch {where.name}')
    if not command:
        raise UserError(f'no command after `--`; give one: python -m launch {where.name} -- kdjax run kd --out runs/kd')
    where.check(options, command)
    job = open_job(where.name, options.id, command, dataclasses.asdict(options))
    hands = Hands(options.is_dry)
    if hands.dry:
        more = '; add --yes to do it' if hasattr(options, 'yes') and not options.yes else ''
        print(f'dry run of {job.id} on {where.name}: nothing is written or started{more}', flush=True)
    return where.submit(job, options, hands)


def _later(where: Place, verb: str, mine: list[str]) -> int:
    kind: Any = Cleanup if verb == 'cleanup' else Target
    asked: Any = tyro.cli(kind, args=mine, prog=f'python -m launch {where.name} {verb}')
    hands = Hands(asked.dry_run)
    if not asked.id:
        return where.leaked(jobs_at(where.name), hands)
    act = {'status': where.status, 'logs': where.logs, 'stop': where.stop, 'cleanup': where.remove}[verb]
    return act(named(where.name, asked.id), hands)
