"""`python -m launch local --procs 4 -- kdjax verify quickstart` gives the verdict of one process."""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
BUDGET = ('--steps', '300', '--teacher-steps', '300', '--learning-rate', '0.01')
"""A tenth of the steps that the experiment asks for, fivefold in length, where its claim holds as well: four processes
that share two cores take 0.1 s for a step."""


def verified(tmp_path, procs: int) -> tuple[int, dict, float]:
    """The exit code, the record, and the seconds."""
    kdjax = str(pathlib.Path(sys.executable).with_name('kdjax'))
    out = tmp_path / f'{procs}.json'
    command = [kdjax, 'verify', 'quickstart', '--json', '--out', str(out), *BUDGET]
    start = time.monotonic()
    found = subprocess.run(
        [sys.executable, '-m', 'launch', 'local', '--procs', str(procs), '--devices', '1', '--', *command],
        cwd=tmp_path, env=os.environ | {'KDJAX_STORE': str(tmp_path / f'store{procs}'), 'PYTHONPATH': str(ROOT)},
        capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    assert out.exists(), found.stdout + found.stderr
    return found.returncode, json.loads(out.read_text()), time.monotonic() - start


def test_the_verdict_of_four_processes_is_that_of_one(tmp_path, capsys):
    codes, records, seconds = zip(*(verified(tmp_path, procs) for procs in (1, 4)), strict=True)
    claims = [record['claims'][0] for record in records]
    with capsys.disabled():
        for procs, claim, took in zip((1, 4), claims, seconds, strict=True):
            difference = f'{100 * claim["mean"]:+.2f} [{100 * claim["low"]:+.2f}, {100 * claim["high"]:+.2f}]'
            print(
                f'\n{procs} processes: {claim["text"]}: {difference} points, {claim["verdict"]}, {took:.0f} s', end=''
            )
    assert codes[0] == codes[1] == {'reproduced': 0}.get(records[0]['verdict'], 3)
    assert records[0]['verdict'] == records[1]['verdict']
    assert records[1]['identity']['device'].startswith('4 x cpu')
    for arm in records[0]['arms']:
        alone, together = (record['arms'][arm]['metrics']['accuracy'] for record in records)
        np.testing.assert_allclose(together, alone, atol=0.01)
