"""Before several processes train as one: are they the same program, on the same kind of machine, in one folder?

Every rank gathers the same facts of all ranks and comes to the same conclusion, so all go on or none does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import ipaddress
import pathlib
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Any

import jax

import kdjax
from kdjax.errors import UserError
from kdjax.run import identity
from kdjax.run.group import distributed

SKEW_SECONDS = 10.0
"""Clocks further apart than this make nonsense of schedules by the clock and of the order of log lines."""
SETTLE_SECONDS = 15.0
"""How long a shared file system may take to show a new file."""

REMEDIES = {
    'kdjax': 'install the same commit of kdjax on every host',
    'experiment': "copy the same experiment's file to every host",
    'python': 'use the same Python on every host',
    'devices': 'give every process the same devices (on CPU: the same KDJAX_DEVICES)',
    'processes': 'give every process the same KDJAX_PROCESSES',
}
"""The facts in which ranks may not differ. Any other is the version of a package."""
SAME_PACKAGES = 'install the same constraints.txt on every host'


@dataclasses.dataclass(frozen=True)
class Rank:
    """What one process says of itself. same: the facts that have to be the same on all; clock: seconds since 1970."""

    host: str
    same: dict[str, str]
    clock: float
    folder: str = ''
    folder_fault: str = ''


def check(run_folder: pathlib.Path | None, code: str = '') -> None:
    """Raise `UserError` on every rank if the ranks do not fit together; returns at once for a process alone.

    run_folder: where the run writes, if it does. code: the digest of the experiment's file.
    """
    if distributed.active():
        found = faults(gather(run_folder, code))
        if found:
            raise UserError('; '.join(found))


def gather(run_folder: pathlib.Path | None, code: str = '') -> list[Rank]:
    """What every rank says of itself, by rank. A shared folder is tried with a file that rank 0 writes."""
    fault = '' if run_folder is None else _folder_fault(run_folder)
    distributed.barrier('preflight')
    clock = time.time()
    folder = '' if run_folder is None else str(run_folder.absolute())
    own = Rank(socket.gethostname(), _same(code), clock, folder, fault)
    return [Rank(**said) for said in distributed.agree(dataclasses.asdict(own), 'preflight')]


def faults(said: Sequence[Rank]) -> list[str]:
    """What is wrong with these ranks together, in words; the same words on every rank."""
    return [*_differences(said), *_loopback(said), *_folders(said), *_clocks(said)]


def rows(said: Sequence[Rank]) -> list[tuple[str, ...]]:
    """The table of a preflight: a row for each fact, with the value of every rank."""
    facts = {name: [rank.same[name] for rank in said] for name in said[0].same}
    clocks = [f'{round(rank.clock - said[0].clock, 1) + 0.0:+.1f} s' for rank in said]
    return [
        ('host', *(rank.host for rank in said)),
        *((name, *values) for name, values in facts.items()),
        ('clock', *clocks),
        *([('run folder', *(rank.folder_fault or rank.folder for rank in said))] if said[0].folder else []),
    ]


def _same(code: str) -> dict[str, str]:
    devices = jax.local_devices()
    return {
        'kdjax': package_digest()[:12],
        **({'experiment': code[:12]} if code else {}),
        **{name: version for name, version in identity.versions().items() if name != 'kdjax'},
        'orbax-checkpoint': importlib.metadata.version('orbax-checkpoint'),
        'devices': f'{len(devices)} x {devices[0].device_kind} ({devices[0].platform})',
        'processes': str(jax.process_count()),
    }


@functools.cache
def package_digest() -> str:
    """sha256 over every source file of kdjax."""
    root, whole = pathlib.Path(kdjax.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob('*.py')):
        whole.update(f'{path.relative_to(root).as_posix()}:'.encode() + path.read_bytes() + b'\0')
    return whole.hexdigest()


def file_digest(path: pathlib.Path) -> str:
    """sha256 of a file's bytes, wherever it lies."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _differences(said: Sequence[Rank]) -> list[str]:
    return [
        f'rank {i} (on {rank.host}) differs from rank 0 (on {said[0].host}): {name} is {rank.same.get(name)} there, '
        f'{value} on rank 0: {REMEDIES.get(name, SAME_PACKAGES)}'
        for name, value in said[0].same.items()
        for i, rank in enumerate(said)
        if rank.same.get(name) != value
    ]


def _loopback(said: Sequence[Rank]) -> list[str]:
    hosts, address = sorted({rank.host for rank in said}), distributed.coordinator()
    if address is None or len(hosts) == 1 or not _is_loopback(address.rpartition(':')[0].strip('[]')):
        return []
    return [
        f"the coordinator's address {address} is a loopback address, but the ranks are on {len(hosts)} hosts "
        f'({", ".join(hosts)}): give an address of rank 0 that all hosts reach'
    ]


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == 'localhost' or host.endswith('.localhost')


def _clocks(said: Sequence[Rank]) -> list[str]:
    return [
        f'the clock of rank {i} (on {rank.host}) is {rank.clock - said[0].clock:+.1f} s from that of rank 0 (on '
        f'{said[0].host}), more than {SKEW_SECONDS:g} s: set the clocks of the hosts by NTP'
        for i, rank in enumerate(said)
        if abs(rank.clock - said[0].clock) > SKEW_SECONDS
    ]


def _folders(said: Sequence[Rank]) -> list[str]:
    return [f'rank {i} (on {rank.host}): {rank.folder_fault}' for i, rank in enumerate(said) if rank.folder_fault]


def _folder_fault(folder: pathlib.Path) -> str:
    """Rank 0 writes a file that nobody can guess, every rank looks for it. Empty if it is there."""
    written = _write_nonce(folder) if distributed.is_writer() else {}
    nonce: dict[str, Any] = distributed.agree(written, 'nonce')[0]
    fault = nonce['fault'] if distributed.is_writer() else ''
    if not nonce['fault'] and not _settles(folder / nonce['name']):
        fault = (
            f'{folder.absolute()} is not the run folder that rank 0 sees (a file that it wrote there is not here): '
            'give --out on a file system that all hosts share'
        )
    distributed.barrier('nonce seen')
    if distributed.is_writer() and not nonce['fault']:
        (folder / nonce['name']).unlink(missing_ok=True)
    return fault


def _write_nonce(folder: pathlib.Path) -> dict[str, str]:
    name = f'.nonce-{secrets.token_hex(8)}'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch(exist_ok=False)
    except OSError as error:
        return {'name': name, 'fault': f'the run folder {folder} cannot be written ({error}): choose another --out'}
    return {'name': name, 'fault': ''}


def _settles(path: pathlib.Path) -> bool:
    deadline = time.monotonic() + SETTLE_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
