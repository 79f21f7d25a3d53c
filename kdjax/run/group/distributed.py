"""One process among several: joining them, agreeing, stopping together, and not outliving each other.

Signals. JAX's preemption notifier is a C handler of SIGTERM, installed on joining. It takes the place of any Python
handler, and any Python handler installed later takes its place. Here Python keeps the signals: what was installed
before joining is put back, so SIGTERM and SIGINT mean the same in a group as alone, and whoever handles them calls
`preempt`, which calls JAX's handler. From there on it is JAX's protocol: every rank hears of it, and
`preemption_reached` is true on all of them at the same call.

Deaths. A killed rank stops its heartbeats; JAX aborts the others after `HEARTBEAT_SECONDS`. A rank that ends with an
error says so first (`leave`); the others end with its exit code, because they would wait for it forever.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

import jax

from kdjax.errors import UserError
from kdjax.run.group import membership, roll_call
from kdjax.run.group.membership import Membership

HEARTBEAT_SECONDS = 10
SHUTDOWN_SECONDS = 600
"""How long a rank that is done waits for the others: rank 0 may still be writing."""
JOINING_SECONDS = 60
"""How long JAX may take to join processes that have all called in."""
AGREE_SECONDS = 600.0
PATIENCE_SECONDS = 5.0
"""How long a rank has to fail by itself after another has failed."""
LAST_WORDS_SECONDS = HEARTBEAT_SECONDS + 2.0
"""How long a rank that failed waits for the others to notice. If it failed because another was killed, JAX ends it
before that, and names the one that was killed."""

FOREVER = 2**31 - 1
"""Milliseconds: 24 days, the longest that a number of JAX's store can say. Later failures show in the heartbeats."""

FAILURE, ENDED = 'kdjax/failure', 'kdjax/ended'


@dataclasses.dataclass
class _Group:
    member: Membership
    client: Any
    notify: Callable[[int], None]
    rounds: Counter[str] = dataclasses.field(default_factory=Counter)
    looks: int = 0
    stopping: bool = False
    failing: threading.Event = dataclasses.field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.follower = threading.Thread(target=_follow, args=(self,), name='kdjax-group', daemon=True)

    def turn(self, name: str) -> int:
        """How often this was called before with the name."""
        self.rounds[name] += 1
        return self.rounds[name] - 1


_group: _Group | None = None


def start(environ: Mapping[str, str] = os.environ) -> None:
    """Join the group that the environment names; nothing at all happens if it names none, or a group of one.

    It has to come before any device is touched. Raises `UserError` if the environment contradicts itself, or on every
    rank that is there if some are not.
    """
    devices = membership.devices(environ)
    if devices is not None:
        jax.config.update('jax_num_cpu_devices', devices)
    member = membership.read(environ)
    if member is not None and member.ranks > 1:
        roll_call.hold(member, membership.timeout(environ))
        _join(member)


def _join(member: Membership) -> None:
    global _group
    from jax._src import distributed

    before = signal.getsignal(signal.SIGTERM)
    jax.distributed.initialize(
        coordinator_address=member.coordinator,
        num_processes=member.ranks,
        process_id=member.rank,
        local_device_ids=member.local_devices,
        cluster_detection_method='deactivate',
        initialization_timeout=JOINING_SECONDS,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        shutdown_timeout_seconds=SHUTDOWN_SECONDS,
    )
    _group = _Group(member, distributed.global_state.client, _take_notifier())
    signal.signal(signal.SIGTERM, before)
    _group.follower.start()


def _take_notifier() -> Callable[[int], None]:
    """JAX's C handler of SIGTERM, as a function. Leaves the signal with its default action."""
    exchange = ctypes.CDLL(None).signal
    exchange.restype, exchange.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    handler = exchange(signal.SIGTERM, None)
    if not handler or handler == 1:
        raise RuntimeError(f'JAX {jax.__version__} installed no notifier of SIGTERM: is its preemption service off?')
    return ctypes.CFUNCTYPE(None, ctypes.c_int)(handler)


def active() -> bool:
    """Is this process one of several?"""
    return _group is not None


def rank() -> int:
    """0 .. ranks() - 1, without touching a device."""
    return 0 if _group is None else _group.member.rank


def ranks() -> int:
    """How many processes there are."""
    return 1 if _group is None else _group.member.ranks


def coordinator() -> str | None:
    """`host:port`, where rank 0 listens; None for a process alone."""
    return None if _group is None else _group.member.coordinator


def is_writer() -> bool:
    """Rank 0 alone writes."""
    return rank() == 0


def agree(value: Any, name: str = 'value', *, seconds: float = AGREE_SECONDS) -> list[Any]:
    """The values of all ranks, in order, on every rank. Small ones: they travel as JSON through rank 0.

    All ranks call it equally often for a name. Raises `RuntimeError` that names the ranks that did not come within
    `seconds`.
    """
    if _group is None:
        return [json.loads(json.dumps(value))]
    client, turn = _group.client, _group.turn(name)
    place = f'kdjax/agree/{name}/{turn}'
    client.key_value_set(f'{place}/{rank()}', json.dumps(value))
    try:
        client.wait_at_barrier(place, int(1000 * seconds))
    except jax.errors.JaxRuntimeError as error:
        missing = sorted(set(range(ranks())) - set(_by_rank(client, place)))
        raise _absent(missing, name, seconds) from error
    if turn:
        client.key_value_delete(f'kdjax/agree/{name}/{turn - 1}/{rank()}')
    said = _by_rank(client, place)
    return [json.loads(said[other]) for other in range(ranks())]


def _by_rank(client: Any, place: str) -> dict[int, str]:
    return {int(key.rpartition('/')[2]): value for key, value in client.key_value_dir_get(place)}


def _absent(missing: list[int], name: str, seconds: float) -> RuntimeError:
    return RuntimeError(
        f"rank{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))} of {ranks()} did not come to '{name}' "
        f'within {seconds:g} s'
    )


def decide(value: Any, name: str = 'decision', *, seconds: float = AGREE_SECONDS) -> Any:
    """Rank 0's value, on every rank: what a clock or a file on one machine says, and all have to do alike.

    As `agree`, but rank 0 waits for nobody.
    """
    if _group is None:
        return json.loads(json.dumps(value))
    key = f'kdjax/decide/{name}/{_group.turn(f"decide {name}")}'
    if rank() == 0:
        _group.client.key_value_set(key, json.dumps(value))
    try:
        return json.loads(_group.client.blocking_key_value_get(key, int(1000 * seconds)))
    except jax.errors.JaxRuntimeError as error:
        raise _absent([0], name, seconds) from error


def barrier(name: str, *, seconds: float = AGREE_SECONDS) -> None:
    """Returns when all ranks have called it. Raises as `agree` does."""
    agree(None, f'barrier {name}', seconds=seconds)


def preempt() -> None:
    """Tell all ranks that this one was asked to stop. For signal handlers; a process alone has nobody to tell."""
    if _group is not None:
        _group.notify(signal.SIGTERM)


def preemption_reached() -> bool:
    """Is this where all ranks stop? True on all of them at the same call, within about a second of a `preempt`.

    All ranks call it equally often: at each place where a run can be saved. A process alone never hears True.
    """
    if _group is None:
        return False
    from jax.experimental import multihost_utils

    _group.looks += 1
    _group.stopping = _group.stopping or multihost_utils.reached_preemption_sync_point(_group.looks)
    return _group.stopping


def leave(code: int, *, agreed: Collection[int] = (0,), stopped: int = 75) -> int:
    """The last call of a process: returns its exit code, or ends it here if the others cannot be waited for.

    agreed: the codes with which all ranks end alike. stopped: the one with which they do after `preemption_reached`.
    """
    global _group
    if _group is None:
        return code
    if code not in agreed and not (code == stopped and _group.stopping):
        _fail(_group, code)
    barrier('end', seconds=SHUTDOWN_SECONDS)
    _group.client.key_value_set(f'{FAILURE}/{rank()}', 'null')
    _group.follower.join()
    jax.distributed.shutdown()
    _group = None
    return code


def run(main: Callable[[], int], *, agreed: Collection[int] = (0,)) -> int:
    """`main` inside the group: `start`, then `main`, then `leave` with its exit code; 1 if the group cannot start.

    What `main` raises goes on to the caller of a process alone; one of several prints it and ends, with 2.
    """
    try:
        start()
    except UserError as error:
        print(f'kdjax: {error}', file=sys.stderr)
        return 1
    try:
        code = main()
    except BaseException:
        if _group is None:
            raise
        traceback.print_exc()
        _fail(_group, 2)
    return leave(code, agreed=agreed)


def _fail(group: _Group, code: int) -> NoReturn:
    """Say so, let the others end, and end: a shutdown would wait for ranks that wait for this one."""
    group.failing.set()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        group.client.key_value_set(f'{ENDED}/{rank()}', str(code))
        for other in range(ranks()):
            group.client.key_value_set(f'{FAILURE}/{other}', json.dumps([rank(), code]), allow_overwrite=True)
        _await_the_others(group)
    _end(code)


def _await_the_others(group: _Group) -> None:
    """Rank 0 holds the connections of all, so it goes last."""
    start, said = time.monotonic(), False
    while (waited := time.monotonic() - start) < LAST_WORDS_SECONDS:
        if len(group.client.key_value_dir_get(ENDED)) == ranks():
            break
        if waited > PATIENCE_SECONDS + 1 and not said:
            os.write(2, f'kdjax: rank {rank()} waits for the others to end; if one was killed, JAX names it\n'.encode())
            said = True
        time.sleep(0.1)
    if rank() == 0:
        time.sleep(0.5)


def _follow(group: _Group) -> None:
    """Wait for another rank to fail; then end as well, unless this one is already at it. `leave` ends the wait."""
    try:
        said = json.loads(group.client.blocking_key_value_get(f'{FAILURE}/{rank()}', FOREVER))
    except jax.errors.JaxRuntimeError:
        return
    if said is None or group.failing.wait(PATIENCE_SECONDS):
        return
    other, code = said
    line = f'kdjax: rank {other} ended with exit code {code}; rank {rank()} cannot go on without it\n'
    os.write(2, line.encode())
    _fail(group, code)


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
