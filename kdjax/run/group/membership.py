"""What the environment says of the group of processes that this one belongs to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeVar

from kdjax.errors import UserError

EXPLICIT = ('KDJAX_COORDINATOR', 'KDJAX_PROCESSES', 'KDJAX_PROCESS')
AUTOMATIC = 'KDJAX_DISTRIBUTED'
DEVICES = 'KDJAX_DEVICES'
TIMEOUT = 'KDJAX_INIT_TIMEOUT'
TIMEOUT_SECONDS = 300.0

Number = TypeVar('Number', int, float)


@dataclasses.dataclass(frozen=True)
class Membership:
    """One process of a group. coordinator: `host:port`, where rank 0 listens; rank: 0 .. ranks - 1.

    local_devices: the accelerators of this host that are this process's own; None for all.
    """

    coordinator: str
    ranks: int
    rank: int
    local_devices: tuple[int, ...] | None = None

    @property
    def host(self) -> str:
        return self.coordinator.rpartition(':')[0].strip('[]')

    @property
    def port(self) -> int:
        return int(self.coordinator.rpartition(':')[2])


def read(environ: Mapping[str, str]) -> Membership | None:
    """The group that the environment names; None if it names none. Raises `UserError` if it says half of it."""
    given = [name for name in EXPLICIT if environ.get(name)]
    automatic = environ.get(AUTOMATIC, '')
    if automatic not in ('', 'auto'):
        raise UserError(f"{AUTOMATIC}='{automatic}': the one value it takes is 'auto'; unset it to run alone")
    if automatic and given:
        raise UserError(f'{AUTOMATIC}=auto and {", ".join(given)} are both set: JAX finds the group, or you name it')
    if automatic:
        return _detected(timeout(environ))
    if not given:
        return None
    missing = [name for name in EXPLICIT if name not in given]
    if missing:
        raise UserError(
            f'{", ".join(given)} set, but not {", ".join(missing)}: a group needs all three, a process alone none'
        )
    return _named(environ)


def timeout(environ: Mapping[str, str]) -> float:
    """Seconds within which all ranks have to be there."""
    return _positive(environ, TIMEOUT, float) if environ.get(TIMEOUT) else TIMEOUT_SECONDS


def devices(environ: Mapping[str, str]) -> int | None:
    """How many CPU devices this process is to have; None for what JAX gives."""
    return _positive(environ, DEVICES, int) if environ.get(DEVICES) else None


def _named(environ: Mapping[str, str]) -> Membership:
    coordinator = environ['KDJAX_COORDINATOR']
    host, _, port = coordinator.rpartition(':')
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"KDJAX_COORDINATOR='{coordinator}': write HOST:PORT, with a port from 1 to 65535")
    ranks, rank = _positive(environ, 'KDJAX_PROCESSES', int), environ['KDJAX_PROCESS']
    if not rank.isdecimal() or int(rank) >= ranks:
        raise UserError(f"KDJAX_PROCESS='{rank}': the {ranks} processes are numbered 0 to {ranks - 1}")
    return Membership(coordinator, ranks, int(rank))


def _positive(environ: Mapping[str, str], name: str, kind: Callable[[str], Number]) -> Number:
    try:
        value = kind(environ[name])
        if 0 < value < float('inf'):
            return value
    except ValueError:
        pass
    raise UserError(f"{name}='{environ[name]}': write a positive {'whole ' if kind is int else ''}number")


def _detected(seconds: float) -> Membership:
    """What JAX finds on Slurm, Open MPI, Kubernetes and Cloud TPU."""
    from jax._src.clusters import ClusterEnv

    coordinator, ranks, rank, local = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, int(seconds)
    )
    if coordinator is None or ranks is None or rank is None:
        raise UserError(
            f'{AUTOMATIC}=auto, but JAX finds no cluster here (it knows Slurm, Open MPI, Kubernetes, Cloud TPU): '
            f'set {", ".join(EXPLICIT)} instead, or unset it to run alone'
        )
    return Membership(coordinator, ranks, rank, None if local is None else tuple(local))
