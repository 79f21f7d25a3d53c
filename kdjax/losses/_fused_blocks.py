"""The same maths with the logits of a block of words at a time, in memory for chunk x block of them.

A softmax needs its normaliser, and a gradient the sum of all slopes, before the first word's can be said: so the logits
are made three times, where a chunk that holds a whole vocabulary makes them once.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ._fused_rows import Setting, capped, product, taught


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The rows of a chunk against heads `[*parts, words, width]`, of which a block is some words of each part."""

    setting: Setting
    heads: tuple[Any, ...]
    rows: Any

    @property
    def size(self) -> int:
        return min(self.setting.words_at_once, self.heads[0].shape[-2])

    @property
    def count(self) -> int:
        return -(-self.heads[0].shape[-2] // self.size)

    def place(self, i):
        """Where block i starts in each part: the last lies over the one before, and leaves its words to that."""
        return jnp.minimum(i * self.size, self.heads[0].shape[-2] - self.size)

    def logits(self, i):
        """Of student and teachers `[chunk, *parts, size]`, -inf where no word is, and the slope of the student's."""
        hidden, _, of_teachers, _ = self.rows
        index, mine = self._index(i)
        found = [
            capped(product('nd,...vd->n...v', h, _slice(head, self.place(i), self.size)), cap)
            for h, head, cap in zip((hidden, *of_teachers), self.heads, self.setting.softcaps, strict=True)
        ]
        there = (mine & (index < self.setting.words))[None]
        return [jnp.where(there, z, -jnp.inf) for z, _ in found], found[0][1]

    def here(self, i):
        """Which of its words are the labels: `[chunk, *parts, size]`."""
        index, mine = self._index(i)
        label = self.rows[1].reshape(-1, *(1,) * index.ndim)
        return (index[None] == label) & mine[None]

    def _index(self, i):
        """Which words block i holds in each part, and whether they are its to count: `[*parts, size]` both."""
        *parts, words, _ = self.heads[0].shape
        dtype = self.rows[1].dtype
        local = (self.place(i) + jnp.arange(self.size)).astype(dtype)
        first = words * jnp.arange(parts[0] if parts else 1, dtype=dtype)
        shape = (*parts, self.size)
        mine = jnp.broadcast_to(local >= jnp.asarray(i * self.size, dtype), shape)
        return (first[:, None] + local[None, :]).reshape(shape), mine


def values(blocks: Blocks):
    """Values `[chunk]`."""
    return _sums(blocks, _normalisers(blocks))[0]


def added(blocks: Blocks, weight, of_head):
    """(values, the gradient of weight x value in the hidden states, `of_head` + that in the head)."""
    setting, hidden = blocks.setting, blocks.rows[0]
    normalisers = _normalisers(blocks)
    value, slopes = _sums(blocks, normalisers)

    def block(i, carry):
        of_hidden, of_head = carry
        of_words, bent, log_s, log_q = _said(blocks, normalisers, i)
        slope = taught(setting, log_s, of_words)[1] - jnp.exp(log_s) * _column(slopes, log_s)
        if setting.hard_weight:
            slope = slope + setting.hard_weight * (jnp.exp(log_q) - blocks.here(i).astype(log_q.dtype))
        slope = (slope * bent * _column(weight, slope)).astype(hidden.dtype)
        of_hidden = of_hidden + product('n...v,...vd->nd', slope, _slice(blocks.heads[0], blocks.place(i), blocks.size))
        before = _slice(of_head, blocks.place(i), blocks.size)
        after = before + product('n...v,nd->...vd', slope, hidden)
        return of_hidden, jax.lax.dynamic_update_slice_in_dim(of_head, after, blocks.place(i), of_head.ndim - 2)

    nothing = jnp.zeros(hidden.shape, of_head.dtype)
    return value, *jax.lax.fori_loop(0, blocks.count, block, (nothing, of_head))


def _normalisers(blocks: Blocks):
    """log sum exp of each model's logits at the temperature, and of the student's at 1: `[chunk]` each."""
    setting, rows = blocks.setting, blocks.rows[0]

    def block(i, carry):
        (student, *teachers), _ = blocks.logits(i)
        scaled = [z / setting.temperature for z in (student, *teachers)] + [student]
        return [_plus(before, z) for before, z in zip(carry, scaled, strict=True)]

    dtype = product('nd,nd->n', rows, rows).dtype
    start = (jnp.full(len(rows), -jnp.inf, dtype), jnp.zeros(len(rows), dtype))
    found = jax.lax.fori_loop(0, blocks.count, block, [start] * (len(blocks.heads) + 1))
    return [top + jnp.log(total) for top, total in found]


def _plus(before, z):
    """(largest, sum of exp(. - largest)) of what came before and of `z`."""
    top, total = before
    axes = tuple(range(1, z.ndim))
    highest = jnp.maximum(top, jnp.max(z, axis=axes))
    safe = jnp.where(jnp.isfinite(highest), highest, 0.0)
    return highest, total * jnp.exp(top - safe) + jnp.sum(jnp.exp(z - _column(safe, z)), axis=axes)


def _said(blocks: Blocks, normalisers, i):
    """Of block i: log p of each teacher, the slope of the student's logits, log s, and log s at temperature 1."""
    (student, *teachers), bent = blocks.logits(i)
    own, *others, plain = normalisers
    t = blocks.setting.temperature
    log_s, log_q = student / t - _column(own, student), student - _column(plain, student)
    of_words = [z / t - _column(n, z) for z, n in zip(teachers, others, strict=True)]
    return of_words, bent, log_s, log_q


def _sums(blocks: Blocks, normalisers):
    """Values, and the sums of all slopes in log s: `[chunk]` each."""
    setting = blocks.setting

    def block(i, carry):
        value, slopes = carry
        of_words, _, log_s, log_q = _said(blocks, normalisers, i)
        v, d = taught(setting, log_s, of_words)
        if setting.hard_weight:
            v = v - setting.hard_weight * jnp.where(blocks.here(i), log_q, 0.0)
        axes = tuple(range(1, v.ndim))
        return value + jnp.sum(v, axis=axes), slopes + jnp.sum(d, axis=axes)

    nothing = jnp.zeros_like(normalisers[0])
    value, slopes = jax.lax.fori_loop(0, blocks.count, block, (nothing, nothing))
    return jnp.where(blocks.rows[3], value, 0.0), slopes


def _slice(head, start, size):
    return jax.lax.dynamic_slice_in_dim(head, start, size, head.ndim - 2)


def _column(x, like):
    return x.reshape(-1, *(1,) * (like.ndim - 1))
