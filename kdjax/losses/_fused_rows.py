"""One chunk of tokens of `fused_divergence`: the words of all models, how they differ, and the slope of that."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from .pointwise import Pointwise


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


def chunk(setting, head, teachers, rows):
    """Values `[chunk]`, and their gradient in the student's logits `[chunk, vocabulary]`, in float32."""
    hidden, label, teachers_hidden, where = rows
    logits, bent = _logits(setting, hidden, head, setting.softcaps[0])
    log_s = jax.nn.log_softmax(logits / setting.temperature)
    of_teachers = [
        jax.nn.log_softmax(_logits(setting, h, w, cap)[0] / setting.temperature)
        for cap, h, (_, w) in zip(setting.softcaps[1:], teachers_hidden, teachers, strict=True)
    ]
    value, slope = taught(setting, log_s, of_teachers)
    value = jnp.sum(value, axis=-1)
    slope = slope - jnp.exp(log_s) * jnp.sum(slope, axis=-1, keepdims=True)
    if setting.hard_weight:
        log_q = log_s if setting.temperature == 1 else jax.nn.log_softmax(logits)
        here = jnp.arange(log_q.shape[-1], dtype=label.dtype)[None, :] == label[:, None]
        value = value - setting.hard_weight * jnp.sum(jnp.where(here, log_q, 0.0), axis=-1)
        slope = slope + setting.hard_weight * (jnp.exp(log_q) - here.astype(log_q.dtype))
    return jnp.where(where, value, 0.0), slope * bent


def _logits(setting, hidden, head, cap):
    logits, slope = capped(product('nd,vd->nv', hidden, head), cap)
    if setting.words < head.shape[0]:
        logits = jnp.where(jnp.arange(head.shape[0])[None, :] < setting.words, logits, -jnp.inf)
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
