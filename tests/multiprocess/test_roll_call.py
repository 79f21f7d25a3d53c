"""The roll call, between threads: who is missing, who is there twice, who else listens or calls."""

import contextlib
import socket
import threading
import time

import pytest
from processes import free_port

from kdjax.errors import UserError
from kdjax.run.group import roll_call
from kdjax.run.group.membership import Membership


def called(members, seconds=10.0):
    """What each member is told, in the order given: None, or the message."""
    told = [None] * len(members)

    def call(i, member):
        try:
            roll_call.hold(member, seconds)
        except UserError as error:
            told[i] = str(error)

    threads = [threading.Thread(target=call, args=pair) for pair in enumerate(members)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return told


def members(ranks, present, address=None):
    address = address or f'127.0.0.1:{free_port()}'
    return [Membership(address, ranks, rank) for rank in present]


def test_all_are_there_in_any_order():
    start = time.monotonic()
    assert called(members(5, [4, 2, 0, 3, 1])) == [None] * 5
    assert time.monotonic() - start < 5


def test_the_port_is_free_afterwards():
    group = members(3, [0, 1, 2])
    assert called(group) == [None] * 3
    with socket.create_server(('127.0.0.1', group[0].port)):
        pass


def test_the_missing_are_named_to_all_who_are_there():
    group = members(4, [0, 1])
    told = called(group, seconds=1.0)
    message = (
        f'ranks 2, 3 of 4 did not reach {group[0].coordinator} within 1 s: look at their logs, check that they can '
        'reach that address and port, or give them longer with KDJAX_INIT_TIMEOUT'
    )
    assert told == [message, message]
    assert called(members(2, [0]), seconds=0.2)[0].startswith('rank 1 of 2 did not reach ')


def test_a_missing_rank_0_is_named():
    (told,) = called(members(2, [1]), seconds=0.5)
    assert told.startswith('rank 1 of 2 found no rank 0 at 127.0.0.1:')
    assert 'within 0.5 s ([Errno 111] Connection refused): 127.0.0.1 is this machine and no other; ' in told
    assert told.endswith('check that rank 0 was started on that host, or give it longer with KDJAX_INIT_TIMEOUT')


def test_a_host_that_does_not_exist():
    (told,) = called(members(2, [1], 'no-such-host.invalid:1234'), seconds=0.5)
    assert 'found no rank 0 at no-such-host.invalid:1234 within 0.5 s ([Errno ' in told
    assert 'is this machine' not in told


def test_two_of_one_rank():
    told = called(members(4, [0, 1, 1]))
    host = socket.gethostname()
    message = (
        f'two processes call themselves rank 1 (on {host} and {host}): give each a KDJAX_PROCESS of its own'
    )
    assert told == [message] * 3


def test_another_number_of_processes():
    zero, one = members(3, [0, 1])
    told = called([zero, Membership(one.coordinator, 2, 1)])
    message = (
        f'rank 1 (on {socket.gethostname()}) was started as one of 2 processes, rank 0 as one of 3: give every process '
        'the same KDJAX_PROCESSES'
    )
    assert told == [message] * 2


def test_a_port_in_use():
    group = members(2, [0])
    with socket.create_server(('', group[0].port)):
        (told,) = called(group)
    assert told == (
        f'port {group[0].port} of KDJAX_COORDINATOR is in use on {socket.gethostname()}: end what listens there '
        '(another run?), or choose another port'
    )


def test_a_port_that_may_not_be_listened_on(monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(socket, 'create_server', refused)
    (told,) = called([Membership('127.0.0.1:80', 2, 0)])
    assert told == 'rank 0 cannot listen at port 80 ([Errno 13] Permission denied): choose another port'


@pytest.mark.parametrize('said', [b'SSH-2.0-OpenSSH\r\n', b'{"a": 1}\n', b''])
def test_something_else_at_the_port(said):
    over = threading.Event()

    def greet():
        while not over.is_set():
            with contextlib.suppress(OSError), server.accept()[0] as line:
                line.recv(4096)
                line.sendall(said)

    with socket.create_server(('127.0.0.1', 0)) as server:
        server.settimeout(0.1)
        thread = threading.Thread(target=greet)
        thread.start()
        (told,) = called(members(2, [1], f'127.0.0.1:{server.getsockname()[1]}'), seconds=0.5)
        over.set()
        thread.join()
    assert 'within 0.5 s (something else answers)' in told


def test_strangers_are_ignored():
    zero, one = members(2, [0, 1])
    strangers = []

    def disturb():
        for said in (b'GET / HTTP/1.1\r\n\r\n', b'[1, 2]\n', b''):
            strangers.append(socket.create_connection(('127.0.0.1', zero.port)))
            strangers[-1].sendall(said)
            if not said:
                strangers[-1].close()
        roll_call.hold(one, 10.0)

    thread = threading.Timer(0.2, disturb)
    thread.start()
    assert called([zero]) == [None]
    thread.join(10)
    for stranger in strangers:
        stranger.close()


def test_a_rank_that_died_and_came_again_is_one_rank():
    zero, one, two = members(3, [0, 1, 2])

    def die_and_come_again():
        with socket.create_connection(('127.0.0.1', zero.port)) as line:
            roll_call._send(line, {'greeting': roll_call.GREETING, 'rank': 1, 'ranks': 3, 'host': 'x'})
        roll_call.hold(one, 10.0)

    again = threading.Timer(0.2, die_and_come_again)
    again.start()
    late = threading.Timer(0.6, roll_call.hold, (two, 10.0))
    late.start()
    assert called([zero]) == [None]
    again.join(10)
    late.join(10)
