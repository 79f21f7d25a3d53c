"""How many bytes a token takes: at most, and on average for a given teacher."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from kdjax.data.teacher_cache import grids
from kdjax.data.teacher_cache.codec import HEADER, count_bits, id_bits
from kdjax.data.teacher_cache.kinds import Hidden, Hybrid, Kind, Sampled, TopK, entries
from kdjax.errors import UserError

LARGEST = 2**16


def bytes_per_token(kind: Kind, vocabulary: int) -> float | int:
    """Bytes of a token at most; `TopK` and `Hidden` always take as many. A file adds up to 64 KiB of padding."""
    wide = id_bits(vocabulary)
    if isinstance(kind, Hidden):
        return HEADER + 2 * kind.width
    if isinstance(kind, TopK):
        return HEADER + kind.k * (wide + kind.bits) / 8
    if isinstance(kind, Sampled):
        return HEADER + kind.draws * (1 + wide + (grids.WEIGHT_BITS if kind.power != 1 else 0)) / 8
    return HEADER + (2 * count_bits(kind, vocabulary) + entries(kind, vocabulary) * (wide + kind.bits)) / 8


def expected_bytes(kind: Kind, probs: np.ndarray) -> float | int:
    """Bytes of a token on average, for a teacher that says `probs` `[tokens, vocab]` at the kind's temperature."""
    wide, tokens = id_bits(probs.shape[-1]), math.prod(probs.shape[:-1])
    if isinstance(kind, Sampled):
        q = np.asarray(probs, np.float64) ** kind.power
        q = q / q.sum(axis=-1, keepdims=True)
        different = np.mean(np.sum(-np.expm1(kind.draws * np.log1p(-np.minimum(q, 1 - 1e-12))), axis=-1))
        return HEADER + (kind.draws + different * (wide + (grids.WEIGHT_BITS if kind.power != 1 else 0))) / 8
    if isinstance(kind, Hybrid):
        head = probs >= kind.threshold
        exact = np.count_nonzero(head) / tokens
        tail = max(0.0, 1 - np.sum(probs[head], dtype=np.float64) / tokens) / kind.threshold
        return HEADER + (2 * count_bits(kind, probs.shape[-1]) + exact * (wide + kind.bits) + tail * wide) / 8
    return bytes_per_token(kind, probs.shape[-1])


def fitted(kind: Callable[[int], Kind], size: float | int, probs: np.ndarray) -> Kind:
    """The largest `kind(n)`, n <= 2^16, that takes at most `size` bytes a token on average at these `probs`.

    `fitted(Hybrid, 48, probs)`. Raises `UserError` where not even the smallest fits.
    """
    low, high = 2, probs.shape[-1] if isinstance(kind(2), TopK) else LARGEST
    if expected_bytes(kind(low), probs) > size:
        raise UserError(f'{kind(low)} takes {expected_bytes(kind(low), probs):.1f} bytes a token: {size} are too few')
    while low < high:
        middle = math.ceil((low + high) / 2)
        low, high = (middle, high) if expected_bytes(kind(middle), probs) <= size else (low, middle - 1)
    return kind(low)


def expected_variance(kind: Hybrid, probs: np.ndarray) -> float | int:
    """sum_c Var(weight_c), mean over tokens: of sampling below the threshold, p (t - p), and of rounding above it."""
    p = np.asarray(probs, np.float64)
    below = np.floor(grids.level_of(p, kind.bits, np))
    low, high = grids.probability(below, kind.bits), grids.probability(below + 1, kind.bits)
    spread = np.where(p >= kind.threshold, (p - low) * (high - p), p * (kind.threshold - p))
    return float(np.mean(np.sum(spread, axis=-1)))


def best_kind(size: float | int, probs: np.ndarray) -> Hybrid:
    """The kind to take at so many bytes a token, given `probs` `[tokens, vocab]` of a few hundred of the tokens.

    `Hybrid`, with the slots and bits of the least variance. At 48, 114, 300 and 512 bytes its gradient of a batch of
    4096 tokens has a smaller error than those of top-k (truncated, renormalised, with a tail bucket) and of independent
    draws, for SmolLM2 and for a byte model (`benchmarks/teacher_cache.py`). Hidden states, where they fit, have about
    the same there and less for a single token; they serve every divergence, at the price of the teacher's head.
    """
    made = (fitted(functools.partial(Hybrid, bits=bits), size, probs) for bits in (6, 8, 10, 12, 14, 16))
    return min((kind for kind in made if isinstance(kind, Hybrid)), key=lambda kind: expected_variance(kind, probs))
