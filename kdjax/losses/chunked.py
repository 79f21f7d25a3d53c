"""Any loss of logits, from hidden states and a head, without a `[tokens, vocabulary]` array."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from . import _checks

LOGITS_AT_ONCE = 2**25


def chunked(
    loss: Callable[..., Array],
    student_hidden: Float[Array, '*batch width'],
    student_head: Float[Array, 'vocabulary head_width'],
    *rows: Shaped[Array, ...],
    chunk: int | None = None,
    where: Bool[Array, '*batch'] | None = None,
    **options: Any,
) -> Float[Array, '*batch']:
    """loss(student_hidden @ student_head.T, *rows, where=where, **options), a chunk of tokens at a time.

    Not a loss by itself: a way to compute one. Logits are accumulated in float32 and made again for the backward pass;
    gradients of the head are added in float32.
    For losses whose tokens do not touch one another, such as those of a sparse teacher:

        term(partial(losses.chunked, losses.sparse_kl), 'student.hidden', 'student.head',
             'teacher.ids', 'teacher.probs', 'teacher.entropy')

    rows: further arguments of the loss, `[*batch, ...]` each. chunk: tokens whose logits are held at once; 2^25 logits
    unless given (128 MiB).
    Raises ValueError on shapes that do not fit, and what the loss raises.
    """
    batch = student_hidden.shape[:-1]
    _checks.mask_shape(where, batch)
    if student_hidden.shape[-1] != student_head.shape[-1] or any(row.shape[: len(batch)] != batch for row in rows):
        raise ValueError(
            f'hidden states {student_hidden.shape}, head {student_head.shape}, rows {[row.shape for row in rows]}: '
            'a head is [vocabulary, width], and every row begins with the axes of the tokens'
        )
    tokens = math.prod(batch)
    mask = jnp.ones(batch, bool) if where is None else where
    count = math.ceil(tokens / (chunk or max(1, LOGITS_AT_ONCE // student_head.shape[0])))
    wide_head = student_head.astype(jnp.float32)

    @jax.checkpoint
    def one(dealt):
        hidden, mask, *rest = dealt
        head = wide_head.astype(student_head.dtype)
        logits = jnp.einsum('nd,vd->nv', hidden, head, preferred_element_type=jnp.float32)
        return loss(logits, *rest, where=mask, **options)

    dealt = tuple(_dealt(x.reshape(tokens, *x.shape[len(batch) :]), count) for x in (student_hidden, mask, *rows))
    values = jax.lax.map(one, dealt)
    return jnp.swapaxes(values, 0, 1).reshape(-1)[:tokens].reshape(batch)


def _dealt(x: Array, count: int) -> Array:
    """`[tokens, ...]` as `[count, size, ...]`, dealt like cards, so that each chunk has a part of every device's."""
    size = math.ceil(len(x) / count)
    padded = jnp.pad(x, ((0, size * count - len(x)), *((0, 0),) * (x.ndim - 1)))
    return jnp.swapaxes(padded.reshape(size, count, *x.shape[1:]), 0, 1)
