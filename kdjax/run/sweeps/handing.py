"""Handing the trials of a sweep to other machines, by the launchers of `python -m launch`."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence

from kdjax.errors import UserError
from kdjax.run import identity
from kdjax.run.find import home
from kdjax.run.sweeps.outcomes import Outcome
from kdjax.run.sweeps.plan import Trial
from kdjax.run.sweeps.trials import last_words

JOBS = pathlib.Path('runs') / 'launch'
"""Where launchers keep their jobs, below the folder that one is in: JOBS/<id>/job.json."""


def job_id(trial: Trial, where: str) -> str:
    """The launcher's name of a trial at one place, the same at every call: `kd-1a2b3c4d-0`."""
    word = re.sub(r'[^a-z0-9]+', '-', trial.settings['experiment'].rpartition('/')[2].lower()).strip('-')[:12]
    word = word.rstrip('-') if word[:1].isalpha() else 'sweep'
    return f'{word}-{identity.digest([where, trial.command])[:8]}-{trial.seed % 10**6}'


def launch_command(trial: Trial, where: str, options: Sequence[str]) -> list[str]:
    """What hands one trial over, as a shell would run it."""
    return ['python', '-m', 'launch', where, 'submit', '--id', job_id(trial, where), *options, '--', *trial.command]


def hand_over(trial: Trial, where: str, options: Sequence[str]) -> tuple[Outcome | None, str]:
    """Give a trial to a launcher and wait until it has taken it: the outcome, and all that the launcher said.

    No outcome where the launcher only showed what it would do, as it does wherever money is spent and --yes is missing.
    """
    command = launch_command(trial, where, options)
    done = subprocess.run(
        [sys.executable, *command[1:]], env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        return Outcome(done.returncode, last_words(done.stderr), where), done.stderr
    taken = (JOBS / job_id(trial, where) / 'job.json').exists()
    return Outcome(0, last_words(done.stdout), where) if taken else None, done.stdout


def check_launchers() -> None:
    """Raises `UserError` where there are no launchers: they are part of the checkout, not of the package."""
    if not (_checkout() / 'launch').is_dir():
        raise UserError(
            f"no launchers at {_checkout() / 'launch'}: sweep from a checkout of kdjax, or here with '--on local'"
        )


def read_options(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"--launch '{text}' cannot be read ({error}): write options as in a shell") from error


def _checkout() -> pathlib.Path:
    return home() if (home() / 'launch').is_dir() else pathlib.Path(__file__).parents[2]


def _environment() -> dict[str, str]:
    paths = [str(_checkout()), *filter(None, [os.environ.get('PYTHONPATH')])]
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}
