"""Whole numbers in exactly as many bits as they need, one after the other."""

from __future__ import annotations

import numpy as np


class BitWriter:
    """Streams of numbers; `bytes()` pads the end of the last with zero bits."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []

    def put(self, values: np.ndarray, width: int) -> None:
        """Every number of `values`, in C order, as `width` bits (at most 32), the highest first.

        Raises ValueError on a number that does not fit: it would come back as another one.
        """
        flat = np.asarray(values).reshape(-1)
        if flat.size and not (flat.min() >= 0 and int(flat.max()) < 2**width):
            raise ValueError(f'{flat.min()} .. {flat.max()} do not fit into {width} bits')
        shifts = np.arange(width - 1, -1, -1, dtype=np.uint32)
        self._parts.append(((flat.astype(np.uint32)[:, None] >> shifts) & 1).astype(np.uint8).reshape(-1))

    def bytes(self) -> bytes:
        return np.packbits(np.concatenate(self._parts)).tobytes()


class BitReader:
    """The streams of a `BitWriter`, read in the same order."""

    def __init__(self, data: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(data, np.uint8))
        self._place = 0

    def get(self, count: int, width: int) -> np.ndarray:
        """The next `count` numbers, uint32. Raises ValueError where the data end before them."""
        stop = self._place + count * width
        if stop > len(self._bits):
            raise ValueError(f'{count} numbers of {width} bits are missing: the data end')
        bits = self._bits[self._place : stop].reshape(count, width)
        self._place = stop
        return bits.astype(np.uint32) @ (np.uint32(1) << np.arange(width - 1, -1, -1, dtype=np.uint32))
