"""Normalisation over the last axis, as language models have it: computed in float32 whatever the activations are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import unknown


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + epsilon) * scale (arXiv 1910.07467, eq. 4)."""

    def __init__(self, features: int, epsilon: float):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        size = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.epsilon)
        return (wide * size * _row(self.scale[...], x)).astype(x.dtype)


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(var + epsilon) * scale + bias (arXiv 1607.06450, sec. 3)."""

    def __init__(self, features: int, epsilon: float):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        normal = jax.nn.standardize(x.astype(jnp.float32), axis=-1, epsilon=self.epsilon)
        return (normal * _row(self.scale[...], x) + _row(self.bias[...], x)).astype(x.dtype)


def layer_norm(kind: str, features: int, epsilon: float) -> RMSNorm | LayerNorm:
    """The layer called 'rms' or 'layer'. Raises UserError for another."""
    kinds: dict[str, type[RMSNorm] | type[LayerNorm]] = {'rms': RMSNorm, 'layer': LayerNorm}
    if kind not in kinds:
        raise unknown('norm', kind, kinds)
    return kinds[kind](features, epsilon)


def _row(values: jax.Array, like: jax.Array) -> jax.Array:
    return values.astype(jnp.float32).reshape((1,) * (like.ndim - 1) + (-1,))
