"""The keys and values of the tokens so far, so that a decoder reads each token once."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """Keys and values by layer, in slots that all rows fill in step.

    keys, values: a tuple over layers of `[batch, kv_heads, slots, head_width]`, after RoPE: as attention
        multiplies them, so that a step copies none.
    valid: which slots hold a token of the row. Prompts are padded on the left, so that all rows end together.
    length: slots written so far. To take tokens back, set `length`, or clear their `valid`, with `dataclasses.replace`.
    """

    keys: tuple[Float[Array, 'batch groups slots width'], ...]
    values: tuple[Float[Array, 'batch groups slots width'], ...]
    valid: Bool[Array, 'batch slots']
    length: Int[Array, '']

    def opened(self, valid: Bool[Array, 'batch tokens']) -> Cache:
        """The cache with slots for new tokens, whose keys and values are still to be written."""
        tokens = valid.shape[1]
        mask = jax.lax.dynamic_update_slice(self.valid, valid, (0, self.length))
        return dataclasses.replace(self, valid=mask, length=self.length + tokens)

    def seen(self, tokens: int) -> Bool[Array, 'batch tokens slots']:
        """Each of the last `tokens` tokens sees the valid slots up to its own."""
        slot = jnp.arange(self.valid.shape[1])
        own = self.length - tokens + jnp.arange(tokens)
        return self.valid[:, None, :] & (slot[None, None, :] <= own[None, :, None])

    def positions(self, valid: Bool[Array, 'batch tokens']) -> Int[Array, 'batch tokens']:
        """Of tokens that come next: how many valid ones each row holds before them."""
        slot = jnp.arange(self.valid.shape[1])
        before = jnp.sum(self.valid & (slot < self.length)[None], axis=1, dtype=jnp.int32)
        return jnp.maximum(before[:, None] + jnp.cumsum(valid, axis=1, dtype=jnp.int32) - 1, 0)


def written(kept: jax.Array, new: jax.Array, end: Int[Array, '']) -> jax.Array:
    """The slots `[batch, kv_heads, slots, head_width]` with `new`, `[batch, tokens, ...]`, in those before `end`."""
    start, new = end - new.shape[1], jnp.swapaxes(new, 1, 2)
    return jax.lax.dynamic_update_slice(kept, new.astype(kept.dtype), (0, 0, start, 0))
