"""Which of several cut networks to keep: scores of performance against scale, the highest wins.

Scale is the share of hidden units that a candidate keeps; the uncut network has scale 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer


def accuracies(
    logits: Float[Array, 'examples networks classes'], labels: Integer[Array, ' examples']
) -> Float[Array, ' networks']:
    """The accuracy of each network, in 0..1."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels[:, None], axis=0, dtype=jnp.float32)


def npsd(
    performance: Float[Array, ' networks'], scales: Float[Array, ' networks'], uncut: Float[Array, '']
) -> Float[Array, ' networks']:
    """A hypothesis of AMD's negative performance-scale derivative: -(P_uncut - P) / (1 - S).

    Performance lost for each unit of scale given up, seen from the uncut network; positive where a candidate beats it.
    The published formula (arXiv 2407.04208) could not be read: whether the difference is taken to the teacher, the student or
    the neighbour, and the units of both, are our guesses. Close to scale 1 it divides two small numbers.
    """
    return -(uncut - performance) / (1.0 - scales)


def tradeoff(
    performance: Float[Array, ' networks'], scales: Float[Array, ' networks'], *, weight: float = 0.2
) -> Float[Array, ' networks']:
    """P + weight * (1 - S): the rule of MiniDisc's code (GeneZC/MiniDisc, run_minidisc_cls.py, weight 0.2)."""
    return performance + weight * (1.0 - scales)


def rank_correlation(first: Float[Array, ' networks'], second: Float[Array, ' networks']) -> Float[Array, '']:
    """Spearman's: the Pearson correlation of ranks, ties at their mean rank. In -1..1; 0 where one of them is constant."""
    a, b = (_centred_ranks(x) for x in (first, second))
    scale = jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b))
    return jnp.where(scale > 0, jnp.sum(a * b) / jnp.where(scale > 0, scale, 1.0), 0.0)


def _centred_ranks(x: jax.Array) -> jax.Array:
    """Of n values: those below minus those above, halved. `[n]`."""
    return jnp.sum(jnp.sign(x[:, None] - x[None, :]), axis=1) / 2
