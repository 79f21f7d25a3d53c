"""Real sweeps, interrupted and killed: the same command ends with the bits of one that nobody disturbed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

POINTS = ('quickstart', '--over', 'temperature=1,2', '--seeds', '1', '--steps', '6000', '--teacher-steps', '50')


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('KDJAX_STORE', str(tmp_path / 'store'))


def start(*more: str) -> subprocess.Popen:
    command = [sys.executable, '-m', 'kdjax.cli.main', 'sweep', *POINTS, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    said, _ = process.communicate(timeout=600)
    return process.returncode, said


def await_rows(process: subprocess.Popen, root: Path) -> None:
    """Until the first trial has written rows."""
    while not any(file.stat().st_size for file in root.glob('trials/*/*/*/*/*/metrics.jsonl')):
        assert process.poll() is None, finish(process)
        time.sleep(0.05)


def digests(root: Path) -> dict[str, str]:
    found = root.glob('trials/*/*/*/*/*/result.json')
    return {str(p.relative_to(root)): json.loads(p.read_text())['state_sha256'] for p in found}


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_the_same_command_ends_with_the_same_bits(number, tmp_path):
    undisturbed, disturbed = tmp_path / 'undisturbed', tmp_path / 'disturbed'
    code, said = finish(start('--out', str(undisturbed)))
    assert code == 0, said
    first = start('--out', str(disturbed))
    await_rows(first, disturbed)
    os.kill(first.pid, number)
    code, said = finish(first)
    assert code == {signal.SIGTERM: 75, signal.SIGKILL: -signal.SIGKILL}[number], said
    assert len(digests(disturbed)) < 2
    calls, code = 0, 75
    while code == 75 and calls < 5:
        calls += 1
        code, said = finish(start('--out', str(disturbed)))
    assert code == 0, said
    assert digests(disturbed) == digests(undisturbed)
    assert len(digests(disturbed)) == 2
    print(f'{number.name}: {calls} more calls')
