"""`kdjax doctor`, alone and as one of several."""

import json

import jax
import pytest

from kdjax.cli import doctor
from kdjax.errors import UserError
from kdjax.run.group import distributed, preflight
from kdjax.run.group.preflight import Rank


@pytest.fixture
def checks(monkeypatch):
    """The checks, replaced by quick ones."""
    quick = {'versions': lambda: 'some', 'data': lambda: 'here'}
    monkeypatch.setattr(doctor, '_CHECKS', quick)
    return quick


def fails():
    raise UserError('it is not here: fetch it')


def test_every_finding_is_shown(checks, capsys):
    assert doctor.doctor([]) == 0
    out = capsys.readouterr().out
    assert 'versions' in out and 'here' in out and 'preflight' not in out


@pytest.mark.parametrize('error', [UserError, AssertionError, OSError, RuntimeError])
def test_what_fails_is_shown_and_the_exit_code_is_1(error, checks, capsys):
    def broken():
        raise error('no such luck')

    checks['data'] = broken
    assert doctor.doctor([]) == 1
    row = next(line for line in capsys.readouterr().out.splitlines() if 'no such luck' in line)
    assert 'data' in row and row.rstrip('│ ').endswith('no')


def test_devices_processes_and_folders_are_checked(monkeypatch, tmp_path):
    monkeypatch.setenv('KDJAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('KDJAX_STORE', str(tmp_path / 'store'))
    found = {name: doctor._outcome(check) for name, check in doctor._CHECKS.items() if name not in ('data',)}
    assert found['devices'] == (f'{jax.device_count()} x cpu (cpu)', True)
    assert found['processes'] == ('this one alone', True)
    assert found['data cache'] == (str(tmp_path / 'cache'), True)
    assert found['store'][0].startswith(f'{tmp_path / "store"}: writable, ')
    assert found['compilation cache'][0].startswith('compilations ')


def as_rank(monkeypatch, rank, said, failed):
    monkeypatch.setattr(distributed, 'active', lambda: True)
    monkeypatch.setattr(distributed, 'is_writer', lambda: rank == 0)
    monkeypatch.setattr(distributed, 'agree', lambda value, name: [json.loads(json.dumps(f)) for f in failed])
    monkeypatch.setattr(preflight, 'gather', lambda out: said)


GOOD = [Rank(f'node{i}', {'jax': '0.10.2'}, 0.0) for i in range(2)]


def test_ranks_that_fit_together(checks, monkeypatch, capsys):
    as_rank(monkeypatch, 0, GOOD, [[], []])
    assert doctor.doctor([]) == 0
    out = capsys.readouterr().out
    assert 'node0' in out and 'node1' in out
    assert out.splitlines()[-1] == 'all ranks fit together'


def test_ranks_that_do_not(checks, monkeypatch, capsys):
    said = [GOOD[0], Rank('node1', {'jax': '0.9'}, 0.0)]
    as_rank(monkeypatch, 0, said, [[], ['data', 'store']])
    assert doctor.doctor([]) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == [
        'rank 1 (on node1) differs from rank 0 (on node0): jax is 0.9 there, 0.10.2 on rank 0: install the same '
        'constraints.txt on every host',
        'rank 1 (on node1) fails its own checks: data, store: run kdjax doctor there',
    ]


def test_one_table_for_all_and_one_exit_code(checks, monkeypatch, capsys):
    as_rank(monkeypatch, 1, [GOOD[0], Rank('node1', {'jax': '0.9'}, 0.0)], [[], []])
    assert doctor.doctor([]) == 1
    assert capsys.readouterr().out == ''
