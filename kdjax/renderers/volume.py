"""A volume, seen by marching along rays."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.renderers.cameras import Orbit
from kdjax.renderers.compositing import ground
from kdjax.renderers.fields import Field, Voxels
from kdjax.renderers.renderer import Params, Traced

REACH = math.sqrt(3)
"""The ball that holds the cube."""


@dataclasses.dataclass(frozen=True)
class Volume:
    """A density and a colour in [-1, 1]^3, nothing outside; values in [0, 1]. params: those of the field.

    `samples` points on each ray, one in the middle of each of as many equal steps between distance - sqrt 3 (never
    behind the camera) and distance + sqrt 3; with `jitter` one at random in each step, by the key of the call.

        T_i = exp(-sum_{j < i} density_j delta)      weight_i = T_i (1 - exp(-density_i delta))

    The image is sum_i weight_i colour_i, and the background under what is left.
    Source: NeRF, arXiv 2003.08934, equations 2 and 3.
    """

    height: int
    width: int
    channels: int = 3
    field: Field = dataclasses.field(default_factory=Voxels)
    samples: int = 32
    jitter: bool = False
    background: float | tuple[float, ...] = 0.5

    @property
    def span(self) -> tuple[float, float]:
        return 0.0, 1.0

    def init(self, key: jax.Array) -> Params:
        return self.field.init(key, self.channels)

    def render(self, params: Params, camera: Orbit, *, key: jax.Array) -> Float[Array, 'height width channels']:
        return self.trace(params, camera, key=key).image

    def trace(self, params: Params, camera: Orbit, *, key: jax.Array) -> Traced:
        """Image, opacity and depth."""
        origin, direction = camera.rays(self.height, self.width)
        length = jnp.sqrt(jnp.sum(direction**2, axis=-1))
        places, step = self._places(camera, origin.dtype, key)
        points = origin[None, None, None] + (places / length[..., None])[..., None] * direction[..., None, :]
        density, colour = self.field.at(params, points)
        inside = jnp.all(jnp.abs(points) <= 1, axis=-1)
        thickness = jnp.where(inside, density, 0.0) * step
        passed = jnp.cumsum(thickness, axis=-1)
        before = jnp.concatenate([jnp.zeros_like(passed[..., :1]), passed[..., :-1]], axis=-1)
        weights = jnp.exp(-before) * -jnp.expm1(-thickness)
        rest = jnp.exp(-passed[..., -1])
        image = jnp.sum(weights[..., None] * colour, axis=-2)
        image = image + rest[..., None] * ground(self.background, image, 3)
        opacity = 1 - rest
        depth = jnp.sum(weights * places, axis=-1) / length / jnp.maximum(opacity, 1e-3)
        return Traced(image, opacity, jnp.where(opacity < 1e-3, jnp.inf, depth))

    def _places(self, camera: Orbit, dtype, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Distances from the camera [height, width, samples], and the length of a step."""
        near = jnp.maximum(camera.distance - REACH, 0.0)
        step = (camera.distance + REACH - near) / self.samples
        shape = self.height, self.width, self.samples
        within = jax.random.uniform(key, shape, dtype) if self.jitter else jnp.full(shape, 0.5, dtype)
        return near + step * (jnp.arange(self.samples, dtype=dtype)[None, None] + within), step
