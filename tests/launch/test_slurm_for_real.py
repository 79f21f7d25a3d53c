"""A job of `launch slurm` on a real Slurm: ended ahead of its time limit, requeued, finished as if nothing had been."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from slurm_cluster import cluster, wait_until, why_not
from stand_in import uninterrupted

ROOT = pathlib.Path(__file__).parents[2]
HERE = pathlib.Path(__file__).parent

LIMIT = ('--time=2', '--notice=30')
"""Slurm may send its signal a minute early, so it comes 30 to 90 s after the start, when the tasks are there."""

STEPS, PAUSE = 1200, 0.1

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or 'Slurm is here')]


@dataclasses.dataclass(frozen=True)
class Program:
    """What the job runs, in so many tasks; `outcome` has to be that of a run which nothing interrupts.

    `command(out)` runs into a folder. `outcome(out, log)` reads the folder and what was printed. `uninterrupted(out)`
    gives the outcome that it should have, into another folder.
    """

    tasks: int
    command: Callable[[pathlib.Path], list[str]]
    outcome: Callable[[pathlib.Path, str], object]
    uninterrupted: Callable[[pathlib.Path], object]


def stand_in(out: pathlib.Path) -> list[str]:
    return [sys.executable, str(HERE / 'stand_in.py'), f'--out={out}', f'--steps={STEPS}', f'--pause={PAUSE}']


def states(out: pathlib.Path, log: str) -> list[str]:
    return [json.loads(path.read_text())['state'] for path in sorted(out.glob('rank*.json'))]


def kdjax_run(out: pathlib.Path, steps: int) -> list[str]:
    """Steps for more than 90 seconds on two idle cores: longer than it takes until Slurm's signal has come."""
    kdjax = str(pathlib.Path(sys.executable).with_name('kdjax'))
    return [
        kdjax, 'run', 'quickstart', '--arm', 'kd', '--out', str(out), '--steps', str(steps), '--teacher-steps', '40',
    ]  # fmt: skip


def last_hash(out: pathlib.Path, log: str) -> str:
    """The sha256 of the state, which rank 0 prints last."""
    return re.findall(rf'{re.escape(str(out))} ([0-9a-f]{{64}})$', log, re.M)[-1]


def real(tasks: int, steps: int) -> Program:
    """`kdjax run`; by itself on this machine for comparison, in as many processes."""

    def here(out: pathlib.Path) -> str:
        group = ['local', f'--procs={tasks}', '--devices=1', '--', *kdjax_run(out, steps)]
        environment = os.environ | {'PYTHONPATH': str(ROOT)}
        found = subprocess.run(
            [sys.executable, '-m', 'launch', *group], env=environment, capture_output=True, text=True, check=True
        )
        return last_hash(out, found.stdout)

    return Program(tasks, lambda out: kdjax_run(out, steps), last_hash, here)


STAND_IN = Program(2, stand_in, states, lambda out: [uninterrupted(STEPS)] * 2)
PROGRAMS = {'stand-in': STAND_IN, 'kdjax run': real(1, 400_000), 'kdjax run in two tasks': real(2, 5000)}


def launch(environment: dict[str, str], folder: pathlib.Path, *arguments: str) -> str:
    found = subprocess.run(
        [sys.executable, '-m', 'launch', 'slurm', *arguments],
        cwd=folder, env=environment | {'PYTHONPATH': str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture(scope='module')
def slurm(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp('slurm')) as environment:
        yield environment


@pytest.mark.parametrize('program', PROGRAMS.values(), ids=PROGRAMS)
def test_the_time_limit_costs_nothing(slurm, tmp_path, monkeypatch, program):
    for environment in (slurm, os.environ):
        monkeypatch.setitem(environment, 'KDJAX_STORE', str(tmp_path / 'store'))
    out = tmp_path / 'run'
    options = ['--id=two', f'--tasks={program.tasks}', '--devices=1', *LIMIT, '--restarts=40']
    launch(slurm, tmp_path, *options, '--', *program.command(out))
    log = tmp_path / 'runs/launch/two/attempts.txt'

    def ended() -> bool:
        return log.exists() and log.read_text().splitlines()[-1].endswith('exit code 0')

    wait_until(ended, 1200, f'the job ends with exit code 0; {log} has what came')
    codes = [line.rpartition(' ')[2] for line in log.read_text().splitlines()]
    assert len(codes) >= 2
    assert {'75'} <= set(codes[:-1]) <= {'75', '143'}, '143: the signal came before the program had begun to listen'
    printed = (tmp_path / 'runs/launch/two/log.txt').read_text()
    assert program.outcome(out, printed) == program.uninterrupted(tmp_path / 'other')
    assert 'exit code 75' in launch(slurm, tmp_path, 'status', 'two')


def test_a_dead_task_is_requeued_and_the_users_error_is_not(slurm, tmp_path):
    kill_once = 'if [ ! -e been ]; then touch been; kill -9 $$; fi; echo again; exit 1'
    launch(slurm, tmp_path, '--id=dies', '--time=5', '--', 'sh', '-c', kill_once)
    log = tmp_path / 'runs/launch/dies/attempts.txt'
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == 2, 120, 'two attempts')
    assert log.read_text() == 'attempt 1: exit code 137\nattempt 2: exit code 1\n'
    wait_until(lambda: 'not in the queue' in launch(slurm, tmp_path, 'status', 'dies'), 60, 'no third attempt')
    assert len(log.read_text().splitlines()) == 2


def test_stop_saves_and_is_not_requeued(slurm, tmp_path):
    out = tmp_path / 'run'
    launch(slurm, tmp_path, '--id=ended', '--time=5', '--', *STAND_IN.command(out))
    shown = tmp_path / 'runs/launch/ended/log.txt'
    wait_until(lambda: shown.exists() and 'one step further' in shown.read_text(), 60, 'the job runs')
    assert 'kdjax-ended: Slurm job' in launch(slurm, tmp_path, 'cleanup')
    launch(slurm, tmp_path, 'stop', 'ended')
    wait_until(lambda: 'not in the queue' in launch(slurm, tmp_path, 'status', 'ended'), 60, 'the job ends')
    assert 'attempt 1: exit code 75' in launch(slurm, tmp_path, 'status', 'ended')
    assert 'saved at step' in launch(slurm, tmp_path, 'logs', 'ended')
    assert json.loads((out / 'rank0.json').read_text())['step'] > 0
    assert launch(slurm, tmp_path, 'cleanup') == 'nothing is left over\n'
    assert os.path.exists(out)
