"""Each benchmark, at tiny sizes: its last line is the JSON object that people and scripts read."""

import json
import pathlib
import runpy
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / 'benchmarks'
KEYS = {'name', 'device', 'versions', 'ratios', 'goals', 'met'}


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a script of the folder as `python benchmarks/NAME.py ...` does: the last line it prints."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def call(name, *flags):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *flags])
        runpy.run_path(str(FOLDER / f'{name}.py'), run_name='__main__')
        return capsys.readouterr().out.splitlines()[-1]

    return call


def check(line, name):
    record = json.loads(line)
    assert record.keys() == KEYS
    assert record['name'] == name
    assert record['goals'].keys() == record['met'].keys() <= record['ratios'].keys()
    assert all(isinstance(met, bool) for met in record['met'].values())
    assert all(value > 0 for value in record['ratios'].values())
    return record


SLOW = ['cached_teacher', 'checkpoint', 'jvp', 'sharding', 'particles']


@pytest.mark.parametrize('name', ['loop', 'seeds', *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_last_line_is_the_record(run, name):
    assert 'jax' in check(run(name, '--smoke', '--repeats', '1'), name)['versions']


@pytest.mark.slow
def test_restart_times_real_processes(run):
    assert check(run('restart', '--smoke'), 'restart')['ratios'].keys() == {'restart', 'four_processes'}


def test_resnet_step_compares_with_torch(run):
    pytest.importorskip('torch')
    record = check(run('resnet_step', '--smoke', '--repeats', '1'), 'resnet_step')
    assert 'torch' in record['versions']
    assert record['ratios'].keys() == {'live_teacher', 'cached_teacher', 'both_cached'}


@pytest.mark.slow
def test_dmd_step_compares_networks_of_one_size_with_torch(run):
    pytest.importorskip('torch')
    record = check(run('dmd_step', '--smoke', '--repeats', '1'), 'dmd_step')
    assert record['ratios'].keys() == {'dit', 'unet'} and 'torch' in record['versions']


def test_without_torch_it_says_so(run, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(SystemExit, match='PyTorch is not installed') as stopped:
        run('resnet_step', '--smoke')
    assert isinstance(stopped.value.code, str)  # a message: Python prints it and exits with 1


def test_the_peer_is_the_same_network(monkeypatch):
    """Equal numbers of parameters, so that the two loops do the same work."""
    pytest.importorskip('torch')
    monkeypatch.syspath_prepend(str(FOLDER))
    import jax
    import torch_peer
    import workload

    peer = torch_peer.resnet(8, (32, 64, 128, 256))
    shapes = jax.eval_shape(lambda key: workload.model('resnet8x4', 32).init(key, None), jax.random.key(0))
    assert sum(p.numel() for p in peer.parameters()) == sum(p.size for p in jax.tree.leaves(shapes['params']))


def test_goals_bound_from_either_side(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import timing

    assert timing.holds(0.97, '>= 0.97')
    assert not timing.holds(0.96, '>= 0.97')
    assert timing.holds(1.1, '<= 1.1')
    assert not timing.holds(1.11, '<= 1.1')


def test_ratio_is_the_median_of_rounds(monkeypatch):
    """Paired: a round in which the whole machine is slow does not count for one side."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import timing

    assert timing.ratio([2.0, 20.0, 9.0], [1.0, 10.0, 1.0]) == 2.0


def test_contestants_take_turns(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import timing

    turns = []
    contestants = {name: lambda steps, name=name: turns.append((name, steps)) or 1.0 for name in 'ab'}
    seconds = timing.interleaved(contestants, steps=4, repeats=2, warm_up=1)
    assert turns == [('a', 1), ('b', 1), ('a', 4), ('b', 4), ('a', 4), ('b', 4)]
    assert seconds == {'a': [0.25, 0.25], 'b': [0.25, 0.25]}
