"""What Google Kubernetes Engine calls the slices of TPUs: node labels, topology, machines of a slice."""

from __future__ import annotations

import dataclasses

from kdjax.errors import unknown

FLAT = {1: '1x1', 4: '2x2', 8: '2x4', 16: '4x4', 32: '4x8', 64: '8x8', 128: '8x16', 256: '16x16'}
"""Chips -> topology of the generations with a plane of chips."""

SOLID = {
    4: '2x2x1', 8: '2x2x2', 16: '2x2x4', 32: '2x4x4', 64: '4x4x4', 128: '4x4x8', 256: '4x8x8', 512: '8x8x8',
}  # fmt: skip
"""Chips -> topology of the generations with a block of chips; their types count two cores a chip."""

GENERATIONS = {
    'v6e': ('tpu-v6e-slice', FLAT, 1),
    'v5litepod': ('tpu-v5-lite-podslice', {chips: FLAT[chips] for chips in FLAT if chips >= 8}, 1),
    'v5p': ('tpu-v5p-slice', SOLID, 2),
    'v4': ('tpu-v4-podslice', SOLID, 2),
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """One slice: `machines` pods of `chips` chips each."""

    accelerator: str
    topology: str
    machines: int
    chips: int


def slice_of(type: str) -> Slice:
    """`v6e-16` -> four machines of four chips, 4x4.

    Raises:
        UserError: no such type; the message has the nearest.
    """
    if type not in TYPES:
        raise unknown('TPU type', type, TYPES)
    return TYPES[type]


def _slices() -> dict[str, Slice]:
    found = {}
    for name, (accelerator, topologies, cores) in GENERATIONS.items():
        for chips, topology in topologies.items():
            machines = max(1, chips // 4)
            found[f'{name}-{chips * cores}'] = Slice(accelerator, topology, machines, chips // machines)
    return found


TYPES = _slices()
