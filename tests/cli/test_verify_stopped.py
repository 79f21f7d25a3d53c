"""`kdjax verify` that is asked to stop exits with 75 and goes on where it was; `--seeds-at-once` as it is asked for."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from jax.sharding import AbstractMesh

from kdjax.cli.main import main
from kdjax.cli.verifying import _at_once
from kdjax.errors import UserError
from kdjax.run.layout import AXES, Layout

TESTS = pathlib.Path(__file__).parents[1]
EXPERIMENT = """
import dataclasses
import os
import signal
import tiny

looks = []

def measure(said, reference):
    looks.append(1)
    if os.environ.get('STRIKE') == str(len(looks)):
        os.kill(os.getpid(), signal.SIGTERM)
    return tiny.measure(said, reference)

def arms(settings):
    return {
        name: dataclasses.replace(stage, evaluate_every=2, measure=measure)
        for name, stage in tiny.arms(settings).items()
    }

experiment = dataclasses.replace(tiny.experiment, arms=arms, seeds=2, systems=(1,))
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The file of a small experiment, and a store of its own."""
    for name in ('HOME', 'CACHE', 'STORE'):
        monkeypatch.setenv(f'KDJAX_{name}', str(tmp_path / name.lower()))
    (tmp_path / 'mine').mkdir()
    path = tmp_path / 'mine' / 'small.py'
    path.write_text(EXPERIMENT)
    return path


def test_a_process_that_is_asked_to_stop_exits_75_and_the_same_command_goes_on(mine, tmp_path, capfd):
    command = ['verify', str(mine), '--steps', '40', '--out', str(tmp_path / 'r.json'), '--json']
    with (tmp_path / 'err').open('w') as err:
        process = subprocess.Popen(
            [sys.executable, '-m', 'kdjax.cli.main', *command], stderr=err, stdout=subprocess.PIPE,
            env=os.environ | {'PYTHONPATH': str(TESTS)},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while 'training arm/kd, seed 0' not in (said := (tmp_path / 'err').read_text()):
            assert process.poll() is None and time.monotonic() < deadline, said
            time.sleep(0.05)
        process.terminate()
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    said = (tmp_path / 'err').read_text()
    assert (process.returncode, out) == (75, b''), said
    assert said.endswith('; 1 of 4 runs are kept; run the same command to go on\n')
    assert main(command) in (0, 3)
    said = capfd.readouterr().err
    assert 'training arm/labels, seed 0' not in said and 'training teacher' not in said
    assert 'training arm/kd, seed 0' in said and (tmp_path / 'r.json').exists()


@pytest.mark.parametrize(
    ('strike', 'kept', 'why'),
    [('1', 0, 'asked to stop after step 4 of 6'), ('5', 1, 'asked to stop after the last step; it is saved')],
    ids=['in the first arm', 'in the last evaluation of the first arm'],
)
def test_a_signal_while_a_stage_trains_waits_for_the_chunk(mine, monkeypatch, capfd, strike, kept, why):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv('STRIKE', strike)
    assert main(['verify', str(mine), '--seeds', '1']) == 75
    said = capfd.readouterr().err
    assert 'kdjax: SIGTERM: finishing the step; a second signal ends at once' in said
    assert said.endswith(f'kdjax: {why}; {kept} of 2 runs are kept; run the same command to go on\n')
    assert signal.getsignal(signal.SIGTERM) is before


def test_seeds_at_once_make_one_record_which_goes_only_where_it_is_sent(mine, tmp_path, capfd):
    assert main(['verify', str(mine), '--seeds-at-once', '8', '--site', str(tmp_path / 'site')]) in (0, 3)
    out, err = capfd.readouterr()
    assert 'training arm/kd, seeds 0, 1: 6 steps' in err
    assert 'verdict' in out and 'record ' not in out
    assert main(['verify', str(mine), '--site', str(tmp_path / 'site')]) in (0, 3)
    assert 'record ' in capfd.readouterr().out


def test_as_many_as_were_asked_for_and_auto_is_one_a_device():
    def meshed(*shape):
        return Layout(AbstractMesh(shape, AXES))

    assert [_at_once(n, meshed(1, 1, 1), 5) for n in (1, 3, 9)] == [1, 3, 5]
    assert [_at_once('auto', meshed(n, 1, 1), 5) for n in (1, 2, 8)] == [1, 2, 5]
    assert _at_once('auto', meshed(4, 2, 1), 5) == _at_once('auto', meshed(4, 1, 2), 5) == 1
    with pytest.raises(UserError, match='--seeds-at-once 0: give at least 1, which is one after the other, or auto'):
        _at_once(0, meshed(1, 1, 1), 5)
