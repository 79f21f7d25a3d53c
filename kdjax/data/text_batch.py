"""From the stored columns of a text split to what a step reads: inputs, labels and masks, inside jit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


def prepare_text(batch: Mapping[str, Any]) -> dict[str, Array]:
    """Next-token prediction out of `tokens`, `segment`, `counted` [B, T + 1].

    Returns `tokens`, `label`, `segment`, `position` [B, T] int32 and `where` [B, T] bool: which labels count. A label
    counts where it is to be predicted and of the document of its input; of an example that only fills up a batch
    (`where` [B] False) none does. position: from 0 in each document of a row; 0 on padding. Other columns stay.
    """
    batch = {name: jnp.asarray(column) for name, column in batch.items()}
    tokens, segment = (batch[name].astype(jnp.int32) for name in ('tokens', 'segment'))
    where = batch['counted'][:, 1:] & (segment[:, 1:] == segment[:, :-1]) & (segment[:, :-1] > 0)
    if 'where' in batch:
        where &= batch['where'][:, None]
    rest = {name: column for name, column in batch.items() if name != 'counted'}
    return rest | {
        'tokens': tokens[:, :-1],
        'label': tokens[:, 1:],
        'where': where,
        'segment': segment[:, :-1],
        'position': positions(segment[:, :-1]),
    }


def positions(segment: Int[Array, 'batch time']) -> Int[Array, 'batch time']:
    """How many tokens of its own document come before each token of a row; 0 where the segment is 0."""
    time = jnp.arange(segment.shape[1], dtype=jnp.int32)[None, :]
    first = jnp.pad(segment[:, 1:] != segment[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    start = jax.lax.cummax(jnp.where(first, time, 0), axis=1)
    return jnp.where(segment > 0, time - start, 0)
