"""Soft strokes: cubic Bezier curves of some width, anti-aliased by distance."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.renderers.cameras import Warp, grid
from kdjax.renderers.compositing import front_to_back, painted
from kdjax.renderers.renderer import Params, logit, positive


@dataclasses.dataclass(frozen=True)
class Strokes:
    """`count` strokes on the canvas, stroke 0 in front; values in [0, 1].

    params, of each stroke: `points` [4, 2], the control points of a cubic Bezier curve on the canvas; `thickness` raw;
    `colour` [channels] and `opacity` as logits. With d the distance to the curve and
    w = least (most / least)^sigmoid(thickness) its width,

        alpha(p) = sigmoid(opacity) sigmoid((w / 2 - d(p)) / softness)

    The curve is `pieces` straight pieces; the distance to these is exact. softness: on the canvas, default a third of a
    pixel's side, so that an edge takes about two pixels and gradients reach a little further.
    Vector graphics that integrate over pixels instead: arXiv 2006.14590 is the usual reference (diffvg).
    """

    height: int
    width: int
    channels: int = 3
    count: int = 16
    least: float = 0.03
    most: float = 0.4
    pieces: int = 12
    softness: float | None = None
    background: float | tuple[float, ...] = 1.0

    @property
    def span(self) -> tuple[float, float]:
        return 0.0, 1.0

    def init(self, key: jax.Array) -> Params:
        places, shapes, colours = jax.random.split(key, 3)
        n = self.count
        start = jax.random.uniform(places, (n, 1, 2), minval=-0.7, maxval=0.7)
        return {
            'points': start + jnp.cumsum(0.25 * jax.random.normal(shapes, (n, 4, 2)), axis=1),
            'thickness': jnp.zeros((n,)),
            'colour': jax.random.normal(colours, (n, self.channels)),
            'opacity': jnp.full((n,), logit(0.8)),
        }

    def render(self, params: Params, camera: Warp, *, key: jax.Array) -> Float[Array, 'height width channels']:
        del key
        points = camera.to_canvas(grid(self.height, self.width, params['points'].dtype))
        weights, rest = front_to_back(self.alpha(params, points))
        return painted(weights, rest, jax.nn.sigmoid(params['colour']), self.background)

    def alpha(self, params: Params, points: Float[Array, '*points 2']) -> Float[Array, '*points strokes']:
        """How opaque each stroke is at points of the canvas."""
        softness = 2 / 3 / max(self.height, self.width) if self.softness is None else self.softness
        shape = (1,) * (points.ndim - 1) + (-1,)
        width = positive(params['thickness'], self.least, self.most).reshape(shape)
        edge = (0.5 * width - distance(points, bezier(params['points'], self.pieces))) / softness
        return jax.nn.sigmoid(params['opacity']).reshape(shape) * jax.nn.sigmoid(edge)


def bezier(controls: Float[Array, 'curves 4 2'], pieces: int) -> Float[Array, 'curves corners 2']:
    """Points of cubic Bezier curves at `pieces` + 1 equal steps of their parameter, the ends among them."""
    t = jnp.linspace(0, 1, pieces + 1, dtype=controls.dtype)
    basis = jnp.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=-1)
    return basis[None] @ controls


def distance(
    points: Float[Array, '*points 2'], lines: Float[Array, 'lines corners 2']
) -> Float[Array, '*points lines']:
    """From points to polylines; the gradient on a line itself is 0, not infinite."""
    start, along = lines[:, :-1], lines[:, 1:] - lines[:, :-1]
    shape = (1,) * (points.ndim - 1)
    start, along = (x.reshape(*shape, *x.shape) for x in (start, along))
    apart = points[..., None, None, :] - start
    part = jnp.sum(apart * along, axis=-1) / (jnp.sum(along**2, axis=-1) + 1e-12)
    nearest = apart - jnp.clip(part, 0, 1)[..., None] * along
    squares = jnp.min(jnp.sum(nearest**2, axis=-1), axis=-1)
    touching = squares <= 1e-12
    return jnp.where(touching, 0.0, jnp.sqrt(jnp.where(touching, 1.0, squares)))
