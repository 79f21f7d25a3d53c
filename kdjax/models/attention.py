"""Softmax attention with grouped queries, whoever may see whom."""

from __future__ import annotations

import functools
import itertools

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

UNSEEN = -1e30
"""The score of what is not seen: finite, so that a row that sees nothing (padding) gives no NaN."""

PART, MOST_PARTS = 128, 8
"""Queries in a part of a causal row, measured on CPU; and the most parts, as each is compiled."""


def attend(
    q: Float[Array, 'batch queries heads width'],
    k: Float[Array, 'batch keys groups width'],
    v: Float[Array, 'batch keys groups width'],
    *,
    seen: Bool[Array, 'rows _ keys'] | None = None,
    causal: bool = False,
    cap: float | None = None,
) -> Float[Array, 'batch queries heads width']:
    """softmax(q k / sqrt(width)) v; consecutive heads share a group's keys and values (arXiv 2305.13245).

    seen: which keys each query sees; one row for all examples, or one query for all queries, may stand for them.
    causal: query i sees keys j <= i only; queries and keys are the same tokens then.
    cap: scores become cap tanh(score / cap) (Gemma 2, arXiv 2408.00118, sec. 2).

    Scores are accumulated, and their softmax is taken, in float32. On a GPU, 16-bit attention without cap is cuDNN's
    flash attention. Elsewhere long causal rows are cut: no score of a later key is computed, and the backward pass
    computes scores again, part by part, so that they are never held for a whole row.
    """
    if _flash(q, k, cap) and (seen is None or causal):
        mask = None if seen is None else seen[:, None]
        return jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal, implementation='cudnn')
    if not causal:
        return _attend(q, k, v, seen, cap)
    tokens, parts = q.shape[1], min(-(-q.shape[1] // PART), MOST_PARTS)
    if parts == 1:
        return _causal(q, k, v, seen, cap)
    ends = [-(-tokens * part // parts) for part in range(parts + 1)]
    attended = jax.checkpoint(functools.partial(_causal, cap=cap))
    mixed = []
    for start, end in itertools.pairwise(ends):
        before = None if seen is None else seen[:, start:end, :end]
        mixed.append(attended(q[:, start:end], k[:, :end], v[:, :end], before))
    return jnp.concatenate(mixed, axis=1)


def _flash(q: jax.Array, k: jax.Array, cap: float | None) -> bool:
    short = q.dtype in (jnp.bfloat16, jnp.float16)
    fits = q.shape[-1] % 8 == 0 and q.shape[-1] <= 128 and q.shape[1] == k.shape[1] and q.shape[1] % 64 == 0
    return short and fits and cap is None and jax.default_backend() == 'gpu'


def _causal(q: jax.Array, k: jax.Array, v: jax.Array, seen: jax.Array | None, cap: float | None) -> jax.Array:
    """Queries are the last of the tokens that keys are of."""
    before = jnp.tril(jnp.ones((1, q.shape[1], k.shape[1]), bool), k.shape[1] - q.shape[1])
    return _attend(q, k, v, before if seen is None else before & seen, cap)


def _attend(q: jax.Array, k: jax.Array, v: jax.Array, seen: jax.Array | None, cap: float | None) -> jax.Array:
    """The heads of a group lie along the queries, so that each product is one batched matrix product."""
    tokens, groups, scale = q.shape[1], k.shape[2], q.shape[-1] ** -0.5
    q = einops.rearrange(q * scale, 'b t (n g) d -> b n (g t) d', n=groups)
    k, v = (einops.rearrange(x, 'b s n d -> b n s d') for x in (k, v))
    scores = jnp.einsum('b n t d, b n s d -> b n t s', q, k, preferred_element_type=jnp.float32)
    if cap is not None:
        scores = cap * jnp.tanh(scores / cap)
    if seen is not None:
        apart = einops.rearrange(scores, 'b n (g t) s -> b n g t s', t=tokens)
        apart = jnp.where(seen[:, None, None], apart, UNSEEN)
        scores = einops.rearrange(apart, 'b n g t s -> b n (g t) s')
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    mixed = jnp.einsum('b n t s, b n s d -> b n t d', weights, v)
    return einops.rearrange(mixed, 'b n (g t) d -> b t (n g) d', t=tokens)
