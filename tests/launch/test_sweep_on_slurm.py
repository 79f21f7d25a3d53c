"""A sweep whose trials run on a real Slurm: handed over once, finished there, shown here."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest
from slurm_cluster import cluster, wait_until, why_not

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or 'Slurm is here')]

SWEEP = (
    'sweep', 'quickstart', '--over', 'temperature=1,2', '--seeds', '1', '--steps', '60', '--teacher-steps', '50',
    '--json', '--on', 'slurm', '--launch=--time 10',
)  # fmt: skip


def sweep(environment: dict[str, str], *more: str) -> list[str]:
    """Call it; the states of its trials."""
    found = subprocess.run(
        [sys.executable, '-m', 'kdjax.cli.main', *SWEEP, *more],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return [state for place in json.loads(found.stdout)['places'] for state in place['states']]


def queue(environment: dict[str, str]) -> str:
    asked = ['squeue', '--noheader', '--format=%i %T']
    return subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_trials_of_a_sweep(tmp_path):
    with cluster(tmp_path / 'slurm') as environment:
        environment['KDJAX_STORE'] = str(tmp_path / 'store')
        environment['PATH'] = f'{pathlib.Path(sys.executable).parent}:{environment["PATH"]}'
        assert sweep(environment) == ['handed to slurm'] * 2
        jobs = {file: file.read_text() for file in pathlib.Path('runs/launch').glob('*/job.json')}
        assert len(jobs) == 2
        done = pathlib.Path('runs/sweeps/trials')
        logs = pathlib.Path('runs/launch').absolute()
        wait_until(lambda: len([*done.rglob('result.json')]) == 2, 300, f'two results; {logs} has what came')
        wait_until(lambda: not queue(environment), 60, 'the jobs have left the queue')
        assert sweep(environment) == ['done'] * 2
        assert {file: file.read_text() for file in jobs} == jobs, 'nothing was handed over again'
