"""The GGUF format, read only: metadata, where each tensor lies, and what its quantised blocks mean.

Source: ggml's docs/gguf.md, and the block structures in its ggml-common.h.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from kdjax.errors import UserError

SCALARS = {0: 'B', 1: 'b', 2: 'H', 3: 'h', 4: 'I', 5: 'i', 6: 'f', 7: '?', 10: 'Q', 11: 'q', 12: 'd'}
"""Kinds of metadata by their number, as `struct` writes them."""
STRING, ARRAY = 8, 9
BLOCK = 32


@dataclasses.dataclass(frozen=True)
class Kind:
    """How values are stored: `size` bytes for each block of so many."""

    name: str
    block: int
    size: int


KINDS = {
    0: Kind('F32', 1, 4),
    1: Kind('F16', 1, 2),
    2: Kind('Q4_0', BLOCK, 18),
    3: Kind('Q4_1', BLOCK, 20),
    8: Kind('Q8_0', BLOCK, 34),
    30: Kind('BF16', 1, 2),
}


@dataclasses.dataclass(frozen=True)
class Placed:
    """A tensor in the file: its shape, rows first, and the bytes that hold it."""

    shape: tuple[int, ...]
    kind: Kind
    start: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) // self.kind.block * self.kind.size


class GGUF:
    """A file, mapped into memory. metadata: by key. tensors: by name.

    Raises UserError for a file that is truncated, no GGUF, or stores tensors in a way that is not read here.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"'{self.path}' is no file: a GGUF checkpoint is one file")
        try:
            self._bytes = np.memmap(self.path, np.uint8, 'r').view(np.ndarray)
            self._view, self._at = self._bytes.data, 0
            self.metadata, self.tensors = self._header()
        except (struct.error, ValueError, UnicodeDecodeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"'{self.path}' is truncated or damaged ({error}): fetch it again") from error
        for name, placed in self.tensors.items():
            if placed.start + placed.nbytes > len(self._bytes):
                raise UserError(f"'{self.path}' is truncated: it ends before the tensor {name}: fetch it again")

    def read(self, name: str) -> np.ndarray:
        """The values of a tensor, float32."""
        placed = self.tensors[name]
        return dequantised(self._bytes[placed.start : placed.start + placed.nbytes], placed.kind, placed.shape)

    def _header(self) -> tuple[dict[str, Any], dict[str, Placed]]:
        if self._take(4) != b'GGUF':
            raise UserError(f"'{self.path}' is no GGUF file: its first bytes are not 'GGUF'")
        version = self._number('I')
        if version not in (2, 3):
            raise UserError(f"'{self.path}' is GGUF of version {version}; 2 and 3 are read: convert it anew")
        count, keys = self._number('Q'), self._number('Q')
        metadata = {}
        for _ in range(keys):
            key = self._string()
            metadata[key] = self._value(self._number('I'))
        infos = [self._info() for _ in range(count)]
        alignment = int(metadata.get('general.alignment', 32))
        data = -(-self._at // alignment) * alignment
        return metadata, {name: Placed(shape, kind, data + offset) for name, shape, kind, offset in infos}

    def _info(self) -> tuple[str, tuple[int, ...], Kind, int]:
        name = self._string()
        shape = tuple(self._number('Q') for _ in range(self._number('I')))[::-1]
        kind = self._number('I')
        if kind not in KINDS:
            known = ', '.join(each.name for each in KINDS.values())
            raise UserError(f"'{self.path}': {name} is stored as ggml type {kind}; {known} are read: use such a file")
        return name, shape, KINDS[kind], self._number('Q')

    def _take(self, size: int) -> bytes:
        found = self._view[self._at : self._at + size].tobytes()
        if len(found) < size:
            raise ValueError(f'the file ends at byte {len(self._bytes)}, inside its header')
        self._at += size
        return found

    def _number(self, form: str) -> Any:
        return struct.unpack(f'<{form}', self._take(struct.calcsize(form)))[0]

    def _string(self) -> str:
        return self._take(self._number('Q')).decode()

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            inner, count = self._number('I'), self._number('Q')
            if inner not in SCALARS:
                return [self._value(inner) for _ in range(count)]
            form = SCALARS[inner]
            return list(struct.unpack(f'<{count}{form}', self._take(count * struct.calcsize(form))))
        if kind not in SCALARS:
            raise ValueError(f'metadata of the unknown kind {kind}')
        return self._number(SCALARS[kind])


def dequantised(raw: np.ndarray, kind: Kind, shape: tuple[int, ...]) -> np.ndarray:
    """float32 values of the stored bytes; a block of 32 has a float16 scale d, then perhaps a float16 minimum m.

    Q8_0: d q. Q4_0: d (q - 8). Q4_1: d q + m. Of 4-bit values the low halves of the bytes are the first 16.
    """
    if kind.name == 'F32':
        return raw.view('<f4').reshape(shape).copy()
    if kind.name in ('F16', 'BF16'):
        stored = np.dtype('<f2') if kind.name == 'F16' else ml_dtypes.bfloat16
        return raw.view(stored).reshape(shape).astype(np.float32)
    blocks = raw.reshape(-1, kind.size)
    scale = blocks[:, :2].copy().view('<f2').astype(np.float32)
    if kind.name == 'Q8_0':
        return (scale * blocks[:, 2:].view(np.int8)).reshape(shape)
    halves = blocks[:, -BLOCK // 2 :]
    q = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.float32)
    if kind.name == 'Q4_0':
        return (scale * (q - 8)).reshape(shape)
    return (scale * q + blocks[:, 2:4].copy().view('<f2').astype(np.float32)).reshape(shape)
