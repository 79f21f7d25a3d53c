"""Embeddings: a row for each entry."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

_normal = jax.nn.initializers.normal(0.02)


class Table(nnx.Module):
    """Rows `[entries, width]`, drawn from N(0, 0.02^2) as GPT-2's and BERT's are."""

    def __init__(self, entries: int, width: int, *, rngs: nnx.Rngs):
        self.table = nnx.Param(_normal(rngs.params(), (entries, width), jnp.float32))

    def as_type(self, dtype: Any) -> jax.Array:
        return self.table[...].astype(dtype)
