"""Flat Gaussian splats: an image as coloured ellipses over one another."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.renderers.cameras import Warp, grid
from kdjax.renderers.compositing import front_to_back, painted
from kdjax.renderers.renderer import Params, logit, positive


@dataclasses.dataclass(frozen=True)
class Splats2D:
    """`count` anisotropic Gaussians on the canvas, composited from the front to the back; values in [0, 1].

    params, of each splat: `mean` [2] on the canvas, `size` [2] raw, `angle` radians, `colour` [channels] and `opacity`
    as logits. With S = diag(s), s = least (most / least)^sigmoid(size), and R the rotation,

        alpha(p) = sigmoid(opacity) exp(-d^T Sigma^-1 d / 2),   d = p - mean,   Sigma = R S S^T R^T

    so the integral of alpha over the canvas is 2 pi s_1 s_2 sigmoid(opacity). The order is that of the arrays and not
    learned: splat 0 lies in front.

    least, most: standard deviations on the canvas [-1, 1]^2. background: one number, or one for each channel.
    """

    height: int
    width: int
    channels: int = 3
    count: int = 64
    least: float = 0.03
    most: float = 1.0
    background: float | tuple[float, ...] = 0.5

    @property
    def span(self) -> tuple[float, float]:
        return 0.0, 1.0

    def init(self, key: jax.Array) -> Params:
        places, turns, colours = jax.random.split(key, 3)
        n = self.count
        return {
            'mean': jax.random.uniform(places, (n, 2), minval=-0.9, maxval=0.9),
            'size': jnp.zeros((n, 2)),
            'angle': jax.random.uniform(turns, (n,), maxval=jnp.pi),
            'colour': 0.5 * jax.random.normal(colours, (n, self.channels)),
            'opacity': jnp.full((n,), logit(0.3)),
        }

    def render(self, params: Params, camera: Warp, *, key: jax.Array) -> Float[Array, 'height width channels']:
        del key
        points = camera.to_canvas(grid(self.height, self.width, params['mean'].dtype))
        weights, rest = front_to_back(self.alpha(params, points))
        return painted(weights, rest, jax.nn.sigmoid(params['colour']), self.background)

    def alpha(self, params: Params, points: Float[Array, '*points 2']) -> Float[Array, '*points splats']:
        """How opaque each splat is at points of the canvas."""
        sizes = positive(params['size'], self.least, self.most)
        shape = (1,) * (points.ndim - 1)
        cos, sin = (f(params['angle']).reshape(*shape, -1) for f in (jnp.cos, jnp.sin))
        x, y = (points[..., axis, None] - params['mean'][:, axis].reshape(*shape, -1) for axis in (0, 1))
        along = (cos * x + sin * y) / sizes[:, 0].reshape(*shape, -1)
        across = (cos * y - sin * x) / sizes[:, 1].reshape(*shape, -1)
        fall = jnp.exp(-0.5 * (along**2 + across**2))
        return jax.nn.sigmoid(params['opacity']).reshape(*shape, -1) * fall
