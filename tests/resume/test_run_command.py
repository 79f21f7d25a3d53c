"""`kdjax run` from process to process: exit codes, options, and what each wrong one is told."""

import json
import os

import pytest

from kdjax.cli import commands
from kdjax.cli.main import main
from kdjax.run import lock

EXPERIMENT = """
import dataclasses
import tiny

def arms(settings):
    return {name: dataclasses.replace(stage, evaluate_every=2) for name, stage in tiny.arms(settings).items()}

experiment = dataclasses.replace(tiny.experiment, config=tiny.Settings(steps=8), arms=arms)
"""


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp('home')
    (home / 'mine').mkdir()
    (home / 'mine' / 'small.py').write_text(EXPERIMENT)
    return home


@pytest.fixture
def kdjax(home, monkeypatch, tmp_path, capfd):
    """Run the arm `labels` into a folder: exit code, standard output, standard error."""
    for name in ('HOME', 'CACHE', 'STORE'):
        monkeypatch.setenv(f'KDJAX_{name}', str(home / name.lower()))

    def call(*options, out='run'):
        given = ['--arm', 'labels', '--log-every', 3, '--out', tmp_path / out, *options]
        code = main(['run', str(home / 'mine' / 'small.py'), *map(str, given)])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def refused(kdjax):
    """The message for options that are wrong."""

    def call(*options):
        code, out, err = kdjax(*options)
        assert (code, out) == (1, ''), err
        assert 'Traceback' not in err
        return err

    return call


def test_sigterm_saves_exits_75_and_the_same_command_goes_on_to_the_same_end(kdjax, signalled, tmp_path):
    code, out, err = kdjax()
    assert (code, out) == (75, '')
    assert 'asked to stop: saving step 4 of 8' in err
    assert 'kdjax: asked to stop after step 4 of 8; run the same command to go on' in err
    code, cut, err = kdjax()
    assert code == 0 and 'going on from step 4 of 8' in err
    code, whole, _ = kdjax(out='whole')
    assert code == 0
    assert cut.split()[-1] == whole.split()[-1], 'the sha256 of the state'
    ran, uncut = tmp_path / 'run', tmp_path / 'whole'
    assert (ran / 'metrics.jsonl').read_bytes() == (uncut / 'metrics.jsonl').read_bytes()
    curves = [json.loads((folder / 'result.json').read_text())['curves'] for folder in (ran, uncut)]
    assert curves[0] == curves[1] and curves[0]['step'] == [2, 4, 6, 8]
    events = [json.loads(line)['event'] for line in (ran / 'events.jsonl').read_text().splitlines()]
    assert events == ['stop', 'resume']


def test_where_a_run_may_go_on(kdjax, refused, tmp_path):
    assert "--resume 'last': give auto, never, or the step of a checkpoint" in refused('--resume', 'last')
    assert 'no checkpoint of step 4 in' in refused('--resume', 4)
    options = ('--save-every', 3, '--keep', 5, '--no-save-in-background', '--on-nan', 'skip')
    assert kdjax('--resume', 'never', *options)[0] == 0
    rows = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert [(row['step'], row['skipped']) for row in rows] == [(3, 0), (6, 0), (8, 0)]
    assert sorted(p.name for p in (tmp_path / 'run' / 'checkpoints').iterdir()) == ['3', '6', '8']
    err = refused('--resume', 'never')
    assert 'holds checkpoints (the latest is of step 8): choose another --out, or go on with --resume auto' in err
    assert '--resume takes one of 3, 6, 8' in refused('--resume', 5)
    code, _, err = kdjax('--resume', 6)
    assert code == 0 and 'going on from step 6 of 8' in err


def test_two_runs_in_one_folder(refused, tmp_path):
    with lock.hold(tmp_path / 'run'):
        assert f'is in use by process {os.getpid()} on' in refused()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--keep', 0), 'keep=0: at least one checkpoint has to be kept'),
        (('--save-seconds', -1), 'save_seconds=-1.0: give 0 for never, or a positive number'),
        (('--on-nan', 'ignore'), 'ignore'),
    ],
)
def test_options_that_make_no_sense(options, message, refused):
    assert message in refused(*options)


def test_a_full_disk_is_the_users_to_free(monkeypatch, capfd):
    def full(arguments):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(commands, 'data', full)
    assert main(['data']) == 1
    said = capfd.readouterr().err
    assert said == 'kdjax: [Errno 28] No space left on device: free some space, then run the same command to go on\n'
