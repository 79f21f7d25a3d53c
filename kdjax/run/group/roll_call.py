"""Before JAX is asked to join the processes: are all of them there?

JAX ends a process that waits in vain, and does not say for whom. So the ranks call in beforehand, at the coordinator's
own port, which rank 0 frees for JAX as soon as all are told to go on. What is wrong is told to every rank.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import socket
import time
from collections.abc import Collection
from typing import Any

from kdjax.errors import UserError
from kdjax.run.group.membership import TIMEOUT, Membership

GREETING = 'kdjax roll call'
RETRY_SECONDS = 0.2
LINE_SECONDS = 2.0
"""How long a caller has for its one line."""
LINE_BYTES = 2**16
ANSWER_SECONDS = 30.0
"""How much longer than its own patience a rank waits for rank 0, which may have come later."""


@dataclasses.dataclass(frozen=True)
class _Caller:
    rank: int
    ranks: int
    host: str
    line: socket.socket


def hold(member: Membership, seconds: float) -> None:
    """Returns when all ranks are there; raises `UserError` on every rank that is, naming those that are not."""
    if member.rank == 0:
        _call(member, seconds)
    else:
        _report(member, seconds)


def _call(member: Membership, seconds: float) -> None:
    present: list[_Caller] = []
    fault: str | None = None
    with _listen(member.port) as listener:
        try:
            _gather(listener, member, time.monotonic() + seconds, present)
            fault = _absent(member, seconds, {caller.rank for caller in present})
        except UserError as error:
            fault = str(error)
        for caller in present:
            _answer(caller, fault)
    if fault is not None:
        raise UserError(fault)


def _listen(port: int) -> socket.socket:
    """On every address of this host, as JAX will."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(('', port), family=family, backlog=1024, dualstack_ipv6=dual)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            remedy = 'end what listens there (another run?), or choose another port'
            raise UserError(
                f'port {port} of KDJAX_COORDINATOR is in use on {socket.gethostname()}: {remedy}'
            ) from error
        raise UserError(f'rank 0 cannot listen at port {port} ({error}): choose another port') from error


def _gather(listener: socket.socket, member: Membership, deadline: float, present: list[_Caller]) -> None:
    while len(present) < member.ranks - 1 and (left := deadline - time.monotonic()) > 0:
        listener.settimeout(left)
        with contextlib.suppress(TimeoutError):
            caller = _hear(listener.accept()[0])
            if caller is not None:
                present[:] = [*_still_there(present), caller]
                _check(present, member)


def _hear(line: socket.socket) -> _Caller | None:
    """Who calls; None for someone who does not know the greeting."""
    said = _receive(line, LINE_SECONDS)
    if not isinstance(said, dict) or said.get('greeting') != GREETING:
        line.close()
        return None
    return _Caller(said['rank'], said['ranks'], said['host'], line)


def _check(present: list[_Caller], member: Membership) -> None:
    """Raise `UserError` if the last caller does not fit the others."""
    *others, caller = present
    if caller.ranks != member.ranks:
        raise UserError(
            f'rank {caller.rank} (on {caller.host}) was started as one of {caller.ranks} processes, rank 0 as one of '
            f'{member.ranks}: give every process the same KDJAX_PROCESSES'
        )
    for other in others:
        if other.rank == caller.rank:
            raise UserError(
                f'two processes call themselves rank {caller.rank} (on {other.host} and {caller.host}): '
                'give each a KDJAX_PROCESS of its own'
            )


def _still_there(present: list[_Caller]) -> list[_Caller]:
    """Without those that hung up: a process that ended may have been started again."""
    gone = [caller for caller in present if _hung_up(caller.line)]
    for caller in gone:
        caller.line.close()
    return [caller for caller in present if caller not in gone]


def _hung_up(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return line.recv(1, socket.MSG_PEEK) == b''
    except BlockingIOError:
        return False
    except OSError:
        return True


def _absent(member: Membership, seconds: float, present: Collection[int]) -> str | None:
    missing = sorted(set(range(1, member.ranks)) - set(present))
    if not missing:
        return None
    return (
        f'{_names(missing)} of {member.ranks} did not reach {member.coordinator} within {seconds:g} s: look at their '
        f'logs, check that they can reach that address and port, or give them longer with {TIMEOUT}'
    )


def _names(ranks: list[int]) -> str:
    return f'rank{"s" if len(ranks) > 1 else ""} {", ".join(map(str, ranks))}'


def _answer(caller: _Caller, fault: str | None) -> None:
    """Tell one rank, and let it hang up first: the port must be free for JAX."""
    with contextlib.suppress(OSError), caller.line as line:
        line.settimeout(LINE_SECONDS)
        _send(line, {'greeting': GREETING, 'fault': fault})
        line.recv(1)


def _report(member: Membership, seconds: float) -> None:
    deadline, last = time.monotonic() + seconds, 'nothing answers'
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((member.host, member.port), timeout=max(0.1, left)) as line:
                hello = {'greeting': GREETING, 'rank': member.rank, 'ranks': member.ranks, 'host': socket.gethostname()}
                _send(line, hello)
                said = _receive(line, left + ANSWER_SECONDS)
            if isinstance(said, dict) and said.get('greeting') == GREETING:
                break
            last = 'something else answers'
        except OSError as error:
            last = str(error)
        time.sleep(RETRY_SECONDS)
    else:
        raise UserError(_unheard(member, seconds, last))
    if said['fault'] is not None:
        raise UserError(said['fault'])


def _unheard(member: Membership, seconds: float, last: str) -> str:
    loopback = member.host in ('localhost', '::1') or member.host.startswith('127.')
    hint = f'{member.host} is this machine and no other; ' if loopback else ''
    return (
        f'rank {member.rank} of {member.ranks} found no rank 0 at {member.coordinator} within {seconds:g} s ({last}): '
        f'{hint}check that rank 0 was started on that host, or give it longer with {TIMEOUT}'
    )


def _send(line: socket.socket, said: dict[str, Any]) -> None:
    line.sendall(json.dumps(said).encode() + b'\n')


def _receive(line: socket.socket, seconds: float) -> Any:
    """One line of JSON; None if the other side hangs up, is silent, or says something else."""
    line.settimeout(seconds)
    heard = b''
    try:
        while not heard.endswith(b'\n') and len(heard) < LINE_BYTES and (more := line.recv(4096)):
            heard += more
        return json.loads(heard)
    except (OSError, ValueError):
        return None
