"""Classes as intervals of a line, laid end to end: which of them is a point in?"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

BLOCK = 64


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Intervals:
    """Lengths in blocks of 64, and where each block ends: two short sums instead of one over the vocabulary.

    That is less work, and loses fewer digits: a class's share is right to some 1e-8 in float32.
    """

    lengths: Float[Array, 'blocks 64']
    ends: Float[Array, ' blocks']

    @property
    def total(self) -> Float[Array, '']:
        return self.ends[-1]

    def at(self, points: Float[Array, ' points']) -> Int[Array, ' points']:
        """The class of each point of [0, total); never one of length 0. It rises with the point."""
        block = jnp.searchsorted(self.ends, jnp.minimum(points, jnp.nextafter(self.total, 0.0)), side='right')
        lengths = self.lengths[block]
        start = jnp.where(block > 0, self.ends[block - 1], 0.0)
        place = jnp.arange(BLOCK, dtype=jnp.int32)[None, :]
        last = jnp.max(jnp.where(lengths > 0, place, 0), axis=-1)
        beyond = (jnp.cumsum(lengths, axis=-1) > (points - start)[:, None]) & (lengths > 0)
        inside = jnp.where(jnp.any(beyond, axis=-1), jnp.argmax(beyond, axis=-1).astype(jnp.int32), last)
        return block.astype(jnp.int32) * BLOCK + inside


def intervals(lengths: Float[Array, ' classes']) -> Intervals:
    """Of lengths that are not negative, and not all 0."""
    blocks = jnp.pad(lengths, (0, -len(lengths) % BLOCK)).reshape(-1, BLOCK)
    sums = jnp.sum(blocks, axis=-1)
    ends = jax.lax.cummax(jnp.where(sums > 0, jnp.cumsum(sums), 0.0))
    return Intervals(blocks, ends)
