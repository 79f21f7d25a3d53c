"""What a preflight makes of what the ranks say of themselves."""

import dataclasses

import pytest

from kdjax.errors import UserError
from kdjax.run.group import distributed, preflight
from kdjax.run.group.preflight import Rank

SAME = {'kdjax': 'aaaa', 'experiment': 'bbbb', 'python': '3.11.7', 'jax': '0.10.2', 'devices': '4 x v5e (tpu)'}
GOOD = [Rank(f'node{i}', dict(SAME, processes='3'), 100.0 + i) for i in range(3)]


def but(rank, **changed):
    """The good ranks, one of them changed."""
    said = list(GOOD)
    same = changed.pop('same', {})
    said[rank] = dataclasses.replace(said[rank], same=said[rank].same | same, **changed)
    return said


@pytest.fixture(autouse=True)
def coordinator(monkeypatch):
    monkeypatch.setattr(distributed, 'coordinator', lambda: 'node0:1234')


def test_ranks_that_fit_together():
    assert preflight.faults(GOOD) == []


DIFFERENT = {
    'kdjax': ('cccc', 'install the same commit of kdjax on every host'),
    'experiment': ('cccc', "copy the same experiment's file to every host"),
    'python': ('3.12.1', 'use the same Python on every host'),
    'jax': ('0.11.0', 'install the same constraints.txt on every host'),
    'devices': ('3 x v5e (tpu)', 'give every process the same devices (on CPU: the same KDJAX_DEVICES)'),
    'processes': ('2', 'give every process the same KDJAX_PROCESSES'),
}


@pytest.mark.parametrize('fact', DIFFERENT)
def test_a_rank_that_differs(fact):
    value, remedy = DIFFERENT[fact]
    (fault,) = preflight.faults(but(2, same={fact: value}))
    assert fault == (
        f'rank 2 (on node2) differs from rank 0 (on node0): {fact} is {value} there, {GOOD[0].same[fact]} on rank 0: '
        f'{remedy}'
    )


@pytest.mark.parametrize('host', ['127.0.0.1', '[::1]', 'localhost', '127.1.2.3'])
def test_a_loopback_coordinator(host, monkeypatch):
    monkeypatch.setattr(distributed, 'coordinator', lambda: f'{host}:1234')
    (fault,) = preflight.faults(GOOD)
    assert fault == (
        f"the coordinator's address {host}:1234 is a loopback address, but the ranks are on 3 hosts "
        '(node0, node1, node2): give an address of rank 0 that all hosts reach'
    )
    assert preflight.faults([dataclasses.replace(rank, host='one') for rank in GOOD]) == []


@pytest.mark.parametrize(('clock', 'said'), [(130.0, '+30.0'), (70.0, '-30.0')])
def test_clocks_apart(clock, said):
    (fault,) = preflight.faults(but(1, clock=clock))
    assert fault == (
        f'the clock of rank 1 (on node1) is {said} s from that of rank 0 (on node0), more than 10 s: set the clocks of '
        'the hosts by NTP'
    )


def test_every_fault_is_told():
    said = but(1, clock=1000.0, same={'jax': '0.9'}, folder_fault='it is not here')
    assert len(preflight.faults(said)) == 3
    assert 'rank 1 (on node1): it is not here' in preflight.faults(said)


def test_the_table_has_a_row_for_each_fact():
    rows = {name: values for name, *values in preflight.rows(GOOD)}
    assert rows['host'] == ['node0', 'node1', 'node2']
    assert rows['jax'] == ['0.10.2'] * 3
    assert rows['clock'] == ['+0.0 s', '+1.0 s', '+2.0 s']
    assert ('clock', '+0.0 s', '+0.0 s', '+2.0 s') in preflight.rows(but(1, clock=99.999))
    assert 'run folder' not in rows
    with_folder = [dataclasses.replace(rank, folder='/x') for rank in GOOD]
    assert preflight.rows(with_folder)[-1] == ('run folder', '/x', '/x', '/x')


def test_a_folder_is_tried_and_left_clean(tmp_path):
    (said,) = preflight.gather(tmp_path / 'run', 'digest of the experiment')
    assert said.folder == str(tmp_path / 'run')
    assert said.folder_fault == ''
    assert list((tmp_path / 'run').iterdir()) == []
    assert said.same['experiment'] == 'digest of th'
    packages = {'kdjax', 'jax', 'jaxlib', 'flax', 'optax', 'numpy', 'orbax-checkpoint'}
    assert packages | {'python', 'devices', 'processes'} <= set(said.same)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    (said,) = preflight.gather(tmp_path / 'file' / 'run')
    assert said.folder_fault.startswith(f'the run folder {tmp_path / "file" / "run"} cannot be written (')
    assert said.folder_fault.endswith('): choose another --out')


def test_a_process_alone_is_not_checked(monkeypatch):
    monkeypatch.setattr(preflight, 'gather', lambda *_: pytest.fail('there is nobody to compare with'))
    preflight.check(None)


def test_several_that_differ_are_refused(monkeypatch):
    monkeypatch.setattr(distributed, 'active', lambda: True)
    monkeypatch.setattr(preflight, 'gather', lambda *_: but(1, same={'jax': '0.9'}))
    with pytest.raises(UserError, match=r'rank 1 \(on node1\) differs from rank 0 .* jax is 0.9 there'):
        preflight.check(None)


def test_the_digest_of_the_package_changes_with_any_of_its_sources(tmp_path, monkeypatch):
    (tmp_path / 'inner').mkdir()
    (tmp_path / '__init__.py').write_text('')
    (tmp_path / 'inner' / 'part.py').write_text('A = 1')
    monkeypatch.setattr(preflight.kdjax, '__file__', str(tmp_path / '__init__.py'))
    before = preflight.package_digest.__wrapped__()
    assert before == preflight.package_digest.__wrapped__()
    (tmp_path / 'inner' / 'part.py').write_text('A = 2')
    changed = preflight.package_digest.__wrapped__()
    (tmp_path / 'inner' / 'part.py').rename(tmp_path / 'inner' / 'other.py')
    assert len({before, changed, preflight.package_digest.__wrapped__()}) == 3
