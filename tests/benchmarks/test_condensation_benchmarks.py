"""The benchmarks of condensation at tiny sizes; here and in PyTorch the same is computed."""

import json
import math
import pathlib
import runpy
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture
def run(monkeypatch, capsys):
    """The record that a script prints last."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def call(name):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', '--smoke', '--repeats', '1'])
        runpy.run_path(str(FOLDER / f'{name}.py'), run_name='__main__')
        record = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert record['name'] == name and 'torch' in record['versions']
        assert record['goals'].keys() == record['met'].keys() <= record['ratios'].keys()
        assert all(value > 0 for value in record['ratios'].values())
        return record

    return call


@pytest.mark.slow
def test_the_gradient_through_training_is_that_of_create_graph(monkeypatch):
    """The loss, the norm of the gradient in the images and its part along a direction at random."""
    pytest.importorskip('torch')
    monkeypatch.syspath_prepend(str(FOLDER))
    import unroll

    ours, peer = (unroll.measured(who, unroll.SMOKE, 3) for who in unroll.WHO)
    for name in ('loss', 'norm', 'along'):
        assert math.isclose(ours[name], peer[name], rel_tol=2e-3), name
    assert ours['temporaries'] > 0 and min(ours['held'], peer['held'], ours['seconds']) > 0


@pytest.mark.slow
def test_unroll_measures_memory_in_processes_of_their_own(run):
    pytest.importorskip('torch')
    record = run('unroll')
    assert record['ratios'].keys() == {'memory_2', 'memory_5', 'seconds_2', 'seconds_5', 'growth'}
    assert record['goals'].keys() == {'memory_5', 'growth'}


@pytest.mark.slow
def test_evaluation_trains_networks_of_one_size_here_and_in_torch(run):
    pytest.importorskip('torch')
    record = run('evaluation')
    assert record['ratios'].keys() == {'dense', 'convnet'} and record['goals'].keys() == {'dense'}


@pytest.mark.parametrize('name', ['unroll', 'evaluation'])
def test_without_torch_it_says_so(run, monkeypatch, name):
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(SystemExit, match='PyTorch is not installed'):
        run(name)
