"""The benchmarks of language models that have peers, at tiny sizes."""

import json
import pathlib
import runpy
import sys
import warnings

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture
def run(monkeypatch, capsys):
    """The record that a script prints last."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setitem(sys.modules, 'torchvision', None)

    def call(name):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', '--smoke', '--repeats', '1'])
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # the peers' own
            runpy.run_path(str(FOLDER / f'{name}.py'), run_name='__main__')
        record = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert record['name'] == name
        assert record['goals'].keys() == record['met'].keys() <= record['ratios'].keys()
        return record

    return call


@pytest.mark.slow
def test_vocab_loss_compares_the_same_losses(run):
    """It ends with a message where a peer's value is not ours."""
    for peer in ('torch', 'liger_kernel', 'trl'):
        pytest.importorskip(peer)
    record = run('vocab_loss')
    assert {'torch', 'liger-kernel', 'trl'} <= record['versions'].keys()
    for case in ('kl_forward', 'kl_reverse', 'jsd', 'two_teachers'):
        assert {f'{case}_{who}' for who in ('scan', 'dense', 'torch', 'liger', 'trl')} <= record['ratios'].keys()


@pytest.mark.slow
def test_lm_step_runs_beside_its_peer(run):
    for peer in ('torch', 'transformers', 'trl'):
        pytest.importorskip(peer)
    assert run('lm_step')['ratios'].keys() == {'live_teacher', 'hidden_state_cache'}


@pytest.mark.parametrize('name', ['vocab_loss', 'lm_step'])
def test_without_peers_it_says_which(run, monkeypatch, name):
    import importlib.metadata

    def version(peer):
        raise importlib.metadata.PackageNotFoundError(peer)

    monkeypatch.setattr(importlib.metadata, 'version', version)
    with pytest.raises(SystemExit, match=r'torch.*pip install torch transformers'):
        run(name)
