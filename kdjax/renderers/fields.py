"""What fills a volume: density and colour at every point, from voxels, a network, or a formula."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.renderers.fourier import fourier_features, init_mlp, mlp
from kdjax.renderers.renderer import Params


@runtime_checkable
class Field(Protocol):
    """init(key, channels) -> params; at(params, points [*points, 3]) -> density [*points] >= 0, colour in [0, 1]."""

    def init(self, key: jax.Array, channels: int) -> Params: ...
    def at(self, params: Params, points: jax.Array) -> tuple[jax.Array, jax.Array]: ...


@dataclasses.dataclass(frozen=True)
class Voxels:
    """Values on the corners of a cubic lattice over [-1, 1]^3, trilinear between them.

    params: `density` [size, size, size] raw (softplus, times `scale`), `colour` [size, size, size, channels] logits;
    axes x, y, z. They start as a soft blob of this `blob` radius in grey, so that a scene begins in the middle (as
    arXiv 2209.14988, appendix A.2, does).
    """

    size: int = 16
    scale: float = 4.0
    blob: float = 0.6

    def init(self, key: jax.Array, channels: int) -> Params:
        axis = jnp.linspace(-1, 1, self.size)
        radius = jnp.sqrt(sum(x**2 for x in jnp.meshgrid(axis, axis, axis, indexing='ij')))
        return {
            'density': 6 * (self.blob - radius) + 0.1 * jax.random.normal(key, (self.size,) * 3),
            'colour': 0.5 * jax.random.normal(jax.random.fold_in(key, 1), (self.size,) * 3 + (channels,)),
        }

    def at(
        self, params: Params, points: Float[Array, '*points 3']
    ) -> tuple[Float[Array, '*points'], Float[Array, '*points channels']]:
        lattice = jnp.concatenate([params['density'][..., None], params['colour']], axis=-1)
        values = trilinear(lattice, points)
        return self.scale * jax.nn.softplus(values[..., 0]), jax.nn.sigmoid(values[..., 1:])


@dataclasses.dataclass(frozen=True)
class FourierDensity:
    """A NeRF-like network: an MLP on random Fourier features of the point; without a direction of view.

    params: `layers`, see `FourierField`. The density is scale softplus(raw + 6 (blob - |p|)), so that a scene begins as
    a soft blob.
    Source: arXiv 2003.08934, section 4; features of arXiv 2006.10739.
    """

    frequencies: int = 24
    spread: float = 0.5
    hidden: int = 32
    depth: int = 2
    scale: float = 4.0
    blob: float = 0.6
    seed: int = 0

    def init(self, key: jax.Array, channels: int) -> Params:
        return {'layers': init_mlp(key, 2 * self.frequencies, self.hidden, self.depth, 1 + channels)}

    def at(
        self, params: Params, points: Float[Array, '*points 3']
    ) -> tuple[Float[Array, '*points'], Float[Array, '*points channels']]:
        values = mlp(params['layers'], fourier_features(points, self.frequencies, self.spread, self.seed))
        radius = jnp.sqrt(jnp.sum(points**2, axis=-1) + 1e-12)
        return self.scale * jax.nn.softplus(values[..., 0] + 6 * (self.blob - radius)), jax.nn.sigmoid(values[..., 1:])


@dataclasses.dataclass(frozen=True)
class Ball:
    """A ball of one density and one colour, whose transmittance is known: exp(-density * chord).

    params: `density` (raw, softplus) and `colour` [channels] as logits.
    """

    radius: float = 0.8

    def init(self, key: jax.Array, channels: int) -> Params:
        return {'density': jnp.ones(()), 'colour': jax.random.normal(key, (channels,))}

    def at(
        self, params: Params, points: Float[Array, '*points 3']
    ) -> tuple[Float[Array, '*points'], Float[Array, '*points channels']]:
        inside = jnp.sum(points**2, axis=-1) <= self.radius**2
        density = jnp.where(inside, jax.nn.softplus(params['density']), 0.0)
        colour = jax.nn.sigmoid(params['colour'])
        return density, jnp.broadcast_to(colour.reshape((1,) * density.ndim + (-1,)), (*density.shape, colour.size))


def trilinear(
    lattice: Float[Array, 'x y z values'], points: Float[Array, '*points 3']
) -> Float[Array, '*points values']:
    """Between the eight corners around each point of [-1, 1]^3; beyond, as on the border."""
    sizes = lattice.shape[:3]
    low, part = [], []
    for axis, size in enumerate(sizes):
        place = jnp.clip(0.5 * (size - 1) * (points[..., axis] + 1), 0, size - 1)
        whole = jnp.clip(jnp.floor(place), 0, size - 2)
        low.append(whole.astype(jnp.int32))
        part.append(place - whole)
    total = jnp.zeros((*points.shape[:-1], lattice.shape[-1]), lattice.dtype)
    for corner in itertools.product((0, 1), repeat=3):
        weight = jnp.ones_like(part[0])
        for side, inside in zip(corner, part, strict=True):
            weight = weight * (inside if side else 1 - inside)
        x, y, z = (start + side for start, side in zip(low, corner, strict=True))
        total = total + weight[..., None] * lattice[x, y, z]
    return total
