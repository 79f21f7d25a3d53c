"""A row of a cache, `[length, ...]`, as bytes and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from kdjax.data.teacher_cache import grids
from kdjax.data.teacher_cache.bits import BitReader, BitWriter
from kdjax.data.teacher_cache.kinds import Hidden, Hybrid, Kind, Sampled, TopK, entries

Row = dict[str, np.ndarray]
"""`ids` `[length, slots]` int32 and `probs` float32, or `hidden` `[length, width]` bfloat16; with each `log_normalizer`
and `entropy` `[length]` float32.
"""

HEADER = 4
"""Bytes of a token's log-normaliser and entropy: float16 each, relative error 2^-11."""


def encode(kind: Kind, vocabulary: int, row: Mapping[str, Any]) -> bytes:
    """The row as bytes. `row` has the fields of `Sparse` or `HiddenStates`, of one row."""
    scalars = np.stack([np.asarray(row['log_normalizer']), np.asarray(row['entropy'])])
    header = np.clip(scalars, -65504, 65504).astype('<f2').tobytes()
    if isinstance(kind, Hidden):
        return header + np.asarray(row['hidden']).astype(ml_dtypes.bfloat16).view('<u2').tobytes()
    ids, probs, exact = (np.asarray(row[name]) for name in ('ids', 'probs', 'exact'))
    writer = BitWriter()
    _write(writer, kind, vocabulary, ids, probs, exact)
    return header + writer.bytes()


def decode(kind: Kind, vocabulary: int, length: int, data: bytes) -> Row:
    """The inverse of `encode`, up to the float16 of the header. Raises ValueError on bytes that end too early."""
    scalars = np.frombuffer(data[: HEADER * length], '<f2').astype(np.float32).reshape(2, length)
    header = {'log_normalizer': scalars[0], 'entropy': scalars[1]}
    rest = data[HEADER * length :]
    if isinstance(kind, Hidden):
        hidden = np.frombuffer(rest, '<u2').reshape(length, kind.width).view(ml_dtypes.bfloat16)
        return {'hidden': hidden, **header}
    ids, probs = _read(BitReader(rest), kind, vocabulary, length)
    return {'ids': ids, 'probs': probs, **header}


def id_bits(vocabulary: int) -> int:
    """ceil(log2(vocabulary)), at least 1."""
    return max(1, math.ceil(math.log2(vocabulary)))


def count_bits(kind: Hybrid, vocabulary: int) -> int:
    """Bits of a number of entries."""
    return entries(kind, vocabulary).bit_length()


def _write(
    writer: BitWriter, kind: Kind, vocabulary: int, ids: np.ndarray, probs: np.ndarray, exact: np.ndarray
) -> None:
    there, wide = ids >= 0, id_bits(vocabulary)
    if isinstance(kind, TopK):
        writer.put(ids, wide)
        writer.put(grids.whole(grids.level_of(probs, kind.bits, np)), kind.bits)
    elif isinstance(kind, Sampled):
        writer.put(there, 1)
        writer.put(ids[there], wide)
        if kind.power != 1:
            writer.put(grids.whole(grids.weight_level(probs[there], np)), grids.WEIGHT_BITS)
    elif isinstance(kind, Hybrid):
        head = np.arange(ids.shape[1]) < exact[:, None]
        for count in (exact, there.sum(axis=1) - exact):
            writer.put(count, count_bits(kind, vocabulary))
        writer.put(ids[there], wide)
        writer.put(grids.whole(grids.level_of(probs[head], kind.bits, np)), kind.bits)


def _read(reader: BitReader, kind: Kind, vocabulary: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    wide = id_bits(vocabulary)
    if isinstance(kind, TopK):
        ids = reader.get(length * kind.k, wide).astype(np.int32).reshape(length, kind.k)
        levels = reader.get(length * kind.k, kind.bits).reshape(length, kind.k)
        return ids, grids.probability(levels, kind.bits).astype(np.float32)
    if isinstance(kind, Sampled):
        return _read_sampled(reader, kind, wide, length)
    assert isinstance(kind, Hybrid)
    exact, tail = (reader.get(length, count_bits(kind, vocabulary)).astype(np.int64)[:, None] for _ in range(2))
    slot = np.arange(entries(kind, vocabulary))
    head, there = slot < exact, slot < exact + tail
    ids = np.full(there.shape, -1, np.int32)
    ids[there] = reader.get(int(there.sum()), wide)
    probs = np.where(there, np.float32(kind.threshold), np.float32(0))
    probs[head] = grids.probability(reader.get(int(head.sum()), kind.bits), kind.bits)
    return ids, probs


def _read_sampled(reader: BitReader, kind: Sampled, wide: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Of independent draws: how often one came is the distance to the next that is new."""
    there = reader.get(length * kind.draws, 1).astype(bool).reshape(length, kind.draws)
    ids = np.full(there.shape, -1, np.int32)
    ids[there] = reader.get(int(there.sum()), wide)
    probs = np.zeros(there.shape, np.float32)
    if kind.power != 1:
        probs[there] = grids.weight(reader.get(int(there.sum()), grids.WEIGHT_BITS).astype(np.float64), np)
    else:
        starts = np.flatnonzero(there)
        probs[there] = np.diff(starts, append=there.size).astype(np.float32) / np.float32(kind.draws)
    return ids, probs
