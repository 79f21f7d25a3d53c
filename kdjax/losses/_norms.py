"""Lengths and directions whose gradient is finite at the zero vector, and whose squares do not overflow."""

import jax
import jax.numpy as jnp


def root(x):
    """The square root for x >= 0, with gradient 0 at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def unit(x, axis: int | tuple[int, ...] = -1):
    """x / ||x||; a zero vector has no direction: it stays 0 and gets no gradient.

    The largest entry is divided out first; as a constant, because the direction does not depend on it.
    """
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=axis, keepdims=True))
    x = x / jnp.where(largest > 0, largest, 1.0)
    squares = jnp.sum(x * x, axis=axis, keepdims=True)
    alive = squares > 0
    return x * jnp.where(alive, jax.lax.rsqrt(jnp.where(alive, squares, 1.0)), 0.0)


def ratio(numerator, denominator):
    """numerator / denominator, and 0 (without gradient) where the denominator is 0."""
    alive = denominator > 0
    return jnp.where(alive, numerator / jnp.where(alive, denominator, 1.0), 0.0)


def deviation(x, axis: int, weight=None):
    """weight * (x - its weighted mean along `axis`), and 0, without gradient, where that is only rounding.

    A constant 0.2 may differ from its computed mean by 1e-8: scaled to length 1, that noise would count as
    much as a signal, with gradients of 1e7.
    """
    weight = jnp.ones_like(x) if weight is None else weight
    total = jnp.sum(jnp.broadcast_to(weight, x.shape), axis=axis, keepdims=True)
    centred = weight * (x - jnp.sum(weight * x, axis=axis, keepdims=True) / jnp.maximum(total, 1.0))
    spread, size = (jnp.max(jnp.abs(a), axis=axis, keepdims=True) for a in (centred, weight * x))
    return jnp.where(spread > 8 * jnp.finfo(x.dtype).eps * size, centred, 0.0)
