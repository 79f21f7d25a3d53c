"""Numbers on grids of a few bits, rounded to the nearest level or at random, so that the mean is exact."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

SMALLEST, OCTAVES, WEIGHT_BITS = -30.0, 40.0, 16


def probability(level: Any, bits: int) -> Any:
    """(level / (2^bits - 1))^2: fine near 0, where probabilities are many, and 1 is a level. NumPy or JAX."""
    return (level / (2**bits - 1.0)) ** 2


def level_of(probability: Any, bits: int, xp: Any = jnp) -> Any:
    """The level of a probability, as a float: a whole number where it lies on the grid."""
    return (2**bits - 1.0) * xp.sqrt(probability)


def nearest(p: Float[Array, '*shape'], bits: int) -> Float[Array, '*shape']:
    """The closest probability of the grid."""
    return probability(jnp.round(level_of(p, bits)), bits)


def at_random(p: Float[Array, '*shape'], bits: int, *, key: PRNGKeyArray) -> Float[Array, '*shape']:
    """One of the two neighbours on the grid, drawn so that its expectation is p."""
    below = jnp.clip(jnp.floor(level_of(p, bits)), 0, 2**bits - 2)
    low, high = probability(below, bits), probability(below + 1, bits)
    return _either(p, low, high, key)


def weight(level: Any, xp: Any = jnp) -> Any:
    """2^(-30 + 40 (level - 1) / 65534), and 0 at level 0: importance weights, which have no upper end."""
    return xp.where(level > 0, 2.0 ** (SMALLEST + OCTAVES * (level - 1.0) / (2**WEIGHT_BITS - 2.0)), 0.0)


def weight_level(w: Any, xp: Any = jnp) -> Any:
    """The level of a weight, as a float."""
    positive = xp.maximum(w, 2.0**SMALLEST)
    level = 1.0 + (xp.log2(positive) - SMALLEST) * ((2**WEIGHT_BITS - 2.0) / OCTAVES)
    return xp.where(w > 0, level, 0.0)


def weight_at_random(w: Float[Array, '*shape'], *, key: PRNGKeyArray) -> Float[Array, '*shape']:
    """As `at_random`, for weights below 2^10."""
    below = jnp.clip(jnp.floor(weight_level(w)), 0, 2**WEIGHT_BITS - 2)
    below = jnp.where(w < 2.0**SMALLEST, 0.0, below)
    return _either(w, weight(below), weight(below + 1), key)


def _either(x: Float[Array, '*shape'], low: Array, high: Array, key: PRNGKeyArray) -> Float[Array, '*shape']:
    up = jax.random.uniform(key, x.shape) * (high - low) < x - low
    return jnp.where(up, high, low)


def whole(levels: np.ndarray) -> np.ndarray:
    """Levels that lie on the grid up to rounding, as integers."""
    return np.rint(levels).astype(np.int32)
