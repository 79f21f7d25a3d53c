"""One chunk of tokens of `fused_divergence`: the words of all models, how they differ, and the slope of that."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from .pointwise import Pointwise

ENTRIES_AT_ONCE = {'cpu': 2**19}
"""Entries of an array in the maths after the logits: 2 MiB of float32, a dozen of which the last cache of a CPU holds.
Elsewhere XLA fuses that maths into few kernels, and all rows go at once."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """All that is no array. softcaps: of the student, then of the teachers."""

    divergence: Pointwise
    weights: tuple[float, ...]
    hard_weight: float
    temperature: float
    factor: float
    softcaps: tuple[float | None, ...]
    words: int
    chunk: int
    words_at_once: int | None
    precision: str


def wide(*arrays):
    return jnp.float64 if any(x.dtype == jnp.float64 for x in arrays) else jnp.float32


def product(axes, a, b):
    """Accumulated in float32 at least; factors of one type are taken as they are."""
    dtype = wide(a, b)
    if a.dtype != b.dtype:
        a, b = a.astype(dtype), b.astype(dtype)
    return jnp.einsum(axes, a, b, preferred_element_type=dtype)


def capped(logits, cap):
    """Logits, and their slope in what they were before the cap."""
    if cap is None:
        return logits, jnp.ones((), logits.dtype)
    bent = jnp.tanh(logits / cap)
    return cap * bent, 1 - bent**2


def taught(setting, log_s, of_teachers):
    """Weighted divergences from all teachers, word by word, and their slope in log s, times T^2 / T where asked for."""
    value, slope = jnp.zeros_like(log_s), jnp.zeros_like(log_s)
    for weight, log_p in zip(setting.weights, of_teachers, strict=True):
        v, d = setting.divergence(log_p.astype(log_s.dtype), log_s)
        value = value + weight * setting.factor * v
        slope = slope + weight * setting.factor / setting.temperature * d
    return value, slope


def values(setting, head, teachers, rows):
    """Values `[chunk]` in float32, in nats."""
    hidden, label, teachers_hidden, where = rows
    logits, of_teachers = _products(head, teachers, hidden, teachers_hidden)
    parts = _parts(logits)
    given = _dealt((logits, of_teachers, label, where), parts)
    found = jax.lax.map(lambda i: _few(setting, *_part(given, i))[0], jnp.arange(parts))
    return jnp.swapaxes(found, 0, 1).reshape(-1)


def slopes(setting, head, teachers, rows, weight):
    """Values `[chunk]`, and the gradient of their weighted sum in the student's logits `[chunk, vocabulary]`.

    The logits of all rows are made at once, what follows for a few rows at a time, whose arrays a cache can hold: the
    slope takes the place of the student's logits.
    """
    hidden, label, teachers_hidden, where = rows
    logits, of_teachers = _products(head, teachers, hidden, teachers_hidden)
    parts, shape = _parts(logits), logits.shape
    given = _dealt((of_teachers, label, where, weight), parts)

    def some(i, carry):
        *here, weight = _part((carry[1], *given), i)
        value, slope = _few(setting, *here)
        return _put(carry[0], value, i), _put(carry[1], slope * weight[:, None], i)

    start = _dealt((jnp.zeros(label.shape, logits.dtype), logits), parts)
    value, slope = jax.lax.fori_loop(0, parts, some, start)
    return value.reshape(-1), slope.reshape(shape)


def _products(head, teachers, hidden, teachers_hidden):
    taught = [product('nd,vd->nv', h, w) for h, (_, w) in zip(teachers_hidden, teachers, strict=True)]
    return product('nd,vd->nv', hidden, head), taught


def _parts(logits):
    rows, words = logits.shape
    few = rows_at_once(words) or rows
    return rows // few if rows % few == 0 else 1


def _dealt(tree, parts):
    """Part i holds the rows i, i + parts, ...: of each device's rows, where they are split over some."""
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]), tree)


def _part(tree, i):
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, 1, keepdims=False), tree)


def _put(x, part, i):
    return jax.lax.dynamic_update_index_in_dim(x, part, i, 1)


def rows_at_once(words):
    """How many rows of so many words the maths after the logits takes at once; None for all."""
    entries = ENTRIES_AT_ONCE.get(jax.default_backend())
    return None if entries is None else max(1, entries // words)


def _few(setting, logits, of_teachers, label, where):
    """Values of some rows, and their slope, from products of hidden states and heads."""
    logits, bent = _bent(setting, logits, setting.softcaps[0])
    log_s = jax.nn.log_softmax(logits / setting.temperature)
    of_words = [
        jax.nn.log_softmax(_bent(setting, z, cap)[0] / setting.temperature)
        for cap, z in zip(setting.softcaps[1:], of_teachers, strict=True)
    ]
    value, slope = taught(setting, log_s, of_words)
    value = jnp.sum(value, axis=-1)
    slope = slope - jnp.exp(log_s) * jnp.sum(slope, axis=-1, keepdims=True)
    if setting.hard_weight:
        log_q = log_s if setting.temperature == 1 else jax.nn.log_softmax(logits)
        here = jnp.arange(log_q.shape[-1], dtype=label.dtype)[None, :] == label[:, None]
        value = value - setting.hard_weight * jnp.sum(jnp.where(here, log_q, 0.0), axis=-1)
        slope = slope + setting.hard_weight * (jnp.exp(log_q) - here.astype(log_q.dtype))
    return jnp.where(where, value, 0.0), slope * bent


def _bent(setting, logits, cap):
    logits, slope = capped(logits, cap)
    if setting.words < logits.shape[-1]:
        logits = jnp.where(jnp.arange(logits.shape[-1])[None, :] < setting.words, logits, -jnp.inf)
    return logits, slope


def in_precision(setting, function):
    """`function` of arrays, computed in float64 where the setting asks for it, with float32 in place of float64 out."""
    if setting.precision == 'float32':
        return function

    def run(*args):
        outer = jnp.zeros(()).dtype
        with jax.enable_x64(True):
            found = function(*jax.tree.map(_to(jnp.float64), args))
            return jax.tree.map(_to(outer), found)

    return run


def _to(dtype):
    return lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
