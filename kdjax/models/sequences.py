"""Rows of tokens that hold several documents: where each begins, and who sees whom."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def positions_in(segment: Int[Array, 'batch tokens']) -> Int[Array, 'batch tokens']:
    """The position of each token in its document, from 0; a document is a stretch of one segment."""
    begins = segment != jnp.roll(segment, 1, axis=1)
    index = jnp.broadcast_to(jnp.arange(segment.shape[1], dtype=jnp.int32)[None], segment.shape)
    return index - jax.lax.cummax(jnp.where(begins, index, 0), axis=1)


def same_document(segment: Int[Array, 'batch tokens']) -> Bool[Array, 'batch tokens tokens']:
    """Which tokens lie in the same document; all padding is one document."""
    return segment[:, :, None] == segment[:, None, :]
