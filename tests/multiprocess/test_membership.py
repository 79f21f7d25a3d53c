"""What the environment may say of a group, and what is said when it contradicts itself."""

import signal
import sys

import jax
import pytest

from kdjax.cli import main
from kdjax.errors import UserError
from kdjax.run.group import distributed, membership
from kdjax.run.group.membership import Membership

NAMED = {'KDJAX_COORDINATOR': 'node1:1234', 'KDJAX_PROCESSES': '4', 'KDJAX_PROCESS': '3'}
SLURM = {
    'SLURM_JOB_ID': '77',
    'SLURM_NTASKS': '2',
    'SLURM_PROCID': '1',
    'SLURM_LOCALID': '1',
    'SLURM_STEP_NODELIST': 'node[07-09]',
    'SLURM_STEP_NUM_TASKS': '2',
}


def test_nothing_said_is_no_group():
    assert membership.read({}) is None
    assert membership.read({'KDJAX_COORDINATOR': '', 'KDJAX_DISTRIBUTED': ''}) is None
    assert membership.devices({}) is None
    assert membership.timeout({}) == 300


def test_a_named_group():
    assert membership.read(NAMED) == Membership('node1:1234', 4, 3)
    six = membership.read(NAMED | {'KDJAX_COORDINATOR': '[::1]:99'})
    assert (six.host, six.port) == ('::1', 99)
    assert membership.devices({'KDJAX_DEVICES': '8'}) == 8
    assert membership.timeout({'KDJAX_INIT_TIMEOUT': '2.5'}) == 2.5


def test_a_group_that_jax_detects(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    found = membership.read({'KDJAX_DISTRIBUTED': 'auto'})
    assert (found.host, found.ranks, found.rank, found.local_devices) == ('node07', 2, 1, (1,))


BAD = {
    'coordinator without port': (
        NAMED | {'KDJAX_COORDINATOR': 'node1'},
        "KDJAX_COORDINATOR='node1': write HOST:PORT, with a port from 1 to 65535",
    ),
    'port': (NAMED | {'KDJAX_COORDINATOR': 'node1:99999'}, "'node1:99999': write HOST:PORT"),
    'rank count': (
        NAMED | {'KDJAX_PROCESSES': 'four'},
        "KDJAX_PROCESSES='four': write a positive whole number",
    ),
    'no ranks': (NAMED | {'KDJAX_PROCESSES': '0'}, "KDJAX_PROCESSES='0': write a positive whole number"),
    'rank': (NAMED | {'KDJAX_PROCESS': '4'}, "KDJAX_PROCESS='4': the 4 processes are numbered 0 to 3"),
    'negative rank': (NAMED | {'KDJAX_PROCESS': '-1'}, "KDJAX_PROCESS='-1': the 4 processes"),
    'one of three': (
        {'KDJAX_PROCESSES': '2'},
        'KDJAX_PROCESSES set, but not KDJAX_COORDINATOR, KDJAX_PROCESS: a group needs all three',
    ),
    'both ways': (
        NAMED | {'KDJAX_DISTRIBUTED': 'auto'},
        'KDJAX_DISTRIBUTED=auto and KDJAX_COORDINATOR, KDJAX_PROCESSES, KDJAX_PROCESS are both set',
    ),
    'another way': ({'KDJAX_DISTRIBUTED': 'slurm'}, "KDJAX_DISTRIBUTED='slurm': the one value it takes is 'auto'"),
    'no cluster': (
        {'KDJAX_DISTRIBUTED': 'auto'},
        'KDJAX_DISTRIBUTED=auto, but JAX finds no cluster here (it knows Slurm, Open MPI, Kubernetes, Cloud TPU): '
        'set KDJAX_COORDINATOR, KDJAX_PROCESSES, KDJAX_PROCESS instead, or unset it to run alone',
    ),
    'devices': (NAMED | {'KDJAX_DEVICES': '1.5'}, "KDJAX_DEVICES='1.5': write a positive whole number"),
    'timeout': (NAMED | {'KDJAX_INIT_TIMEOUT': 'inf'}, "KDJAX_INIT_TIMEOUT='inf': write a positive number"),
    'negative timeout': (NAMED | {'KDJAX_INIT_TIMEOUT': '-1'}, "KDJAX_INIT_TIMEOUT='-1': write a positive number"),
}


@pytest.mark.parametrize('case', BAD)
def test_every_contradiction_is_named(case):
    environ, message = BAD[case]
    with pytest.raises(UserError) as error:
        distributed.start(environ)
    assert message in str(error.value)


def test_the_command_reports_it_and_exits_1(monkeypatch, capsys):
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', 'left as it is')
    monkeypatch.setenv('KDJAX_PROCESS', '1')
    monkeypatch.setattr(sys, 'argv', ['kdjax', 'data'])
    assert main.console() == 1
    out, err = capsys.readouterr()
    assert out == ''
    assert err.startswith('kdjax: KDJAX_PROCESS set, but not KDJAX_COORDINATOR, KDJAX_PROCESSES')


@pytest.mark.parametrize('environ', [{}, NAMED | {'KDJAX_PROCESSES': '1', 'KDJAX_PROCESS': '0'}])
def test_a_process_alone_joins_nothing(environ, monkeypatch):
    monkeypatch.setattr(jax.distributed, 'initialize', lambda **_: pytest.fail('there is nobody to join'))
    distributed.start(environ)
    assert not distributed.active()
    assert (distributed.rank(), distributed.ranks(), distributed.is_writer()) == (0, 1, True)
    assert distributed.coordinator() is None
    assert distributed.agree({'a': (1, 2)}) == [{'a': [1, 2]}]
    assert distributed.decide({'a': (1, 2)}) == {'a': [1, 2]}
    distributed.barrier('alone')
    distributed.preempt()
    assert not distributed.preemption_reached()
    assert distributed.leave(2) == 2


def test_without_jaxs_notifier_there_is_no_stopping_together():
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(RuntimeError, match='installed no notifier of SIGTERM: is its preemption service off'):
            distributed._take_notifier()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_a_process_alone_raises_goes_through():
    def broken():
        raise KeyError('x')

    with pytest.raises(KeyError):
        distributed.run(broken)
    assert distributed.run(lambda: 3) == 3
