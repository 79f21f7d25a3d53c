"""Normalisation layers: statistics in float32 whatever the activations are, and no hidden mode."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import unknown

EPSILON = 1e-5


class BatchNorm(nnx.Module):
    """(x - mean) / sqrt(var + 1e-5) * scale + bias over all axes but the last (arXiv 1502.03167, alg. 1).

    Training normalises by the biased variance of the batch, and moves the running mean and the running
    *unbiased* variance a tenth of the way (momentum .9 here is PyTorch's .1): as `torch.nn.BatchNorm2d` does,
    so that weights and curves compare. Evaluation uses the running statistics and writes nothing.
    """

    momentum = 0.9

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        del rngs
        self.scale = nnx.Param(jnp.ones(channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(channels, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(channels, jnp.float32))

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        mean, var = self._batch_statistics(x) if train else (self.mean[...], self.var[...])
        slope = jax.lax.rsqrt(var + EPSILON) * self.scale[...]
        rows = (1,) * (x.ndim - 1) + (-1,)
        shifted = x.astype(jnp.float32) - mean.reshape(rows)
        return (shifted * slope.reshape(rows) + self.bias[...].reshape(rows)).astype(x.dtype)

    def _batch_statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        wide = x.astype(jnp.float32)
        axes = tuple(range(x.ndim - 1))
        mean, var = jnp.mean(wide, axes), jnp.var(wide, axes)
        count = x.size // x.shape[-1]
        unbiased = var * (count / max(count - 1, 1))
        self.mean[...] = self._moved(self.mean[...], mean)
        self.var[...] = self._moved(self.var[...], unbiased)
        return mean, var

    def _moved(self, running: jax.Array, batch: jax.Array) -> jax.Array:
        return self.momentum * running + (1.0 - self.momentum) * jax.lax.stop_gradient(batch)


class GroupNorm(nnx.Module):
    """The same for each example over groups of channels, without running statistics (arXiv 1803.08494).

    Eight groups, or as many as divide both eight and the number of channels: the networks here are narrow.
    """

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        del rngs
        self.groups = math.gcd(8, channels)
        self.scale = nnx.Param(jnp.ones(channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        del train
        grouped = x.astype(jnp.float32).reshape(x.shape[0], -1, self.groups, x.shape[-1] // self.groups)
        mean = jnp.mean(grouped, (1, 3), keepdims=True)
        var = jnp.var(grouped, (1, 3), keepdims=True)
        normal = ((grouped - mean) * jax.lax.rsqrt(var + EPSILON)).reshape(x.shape)
        rows = (1,) * (x.ndim - 1) + (-1,)
        return (normal * self.scale[...].reshape(rows) + self.bias[...].reshape(rows)).astype(x.dtype)


class InstanceNorm(GroupNorm):
    """GroupNorm with a group for each channel (arXiv 1607.08022), scaled and shifted."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        super().__init__(channels, rngs=rngs)
        self.groups = channels


class Identity(nnx.Module):
    """No normalisation."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        del channels, rngs

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        del train
        return x


_KINDS: dict[str, type[BatchNorm] | type[GroupNorm] | type[Identity]] = {
    'batch': BatchNorm,
    'group': GroupNorm,
    'instance': InstanceNorm,
    'none': Identity,
}


def norm_layer(kind: str, *, allowed: tuple[str, ...] = ('batch', 'group')) -> type:
    """The layer called `kind`. Raises UserError for one that is not `allowed`."""
    if kind not in allowed:
        raise unknown('norm', kind, allowed)
    return _KINDS[kind]
