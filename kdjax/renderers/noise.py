"""Noise that belongs to the object: every view of it is exactly N(0, I), and views agree on what they share.

The object is covered with points that each carry one normal draw. A pixel of a view shows the sum of the draws of the
points that fall into it, over the square root of their number. A point falls into one pixel only and the rule does not
look at the noise, so the pixels of a view are independent with unit variance; pixels p and q of two views have the
covariance |p and q| / sqrt(|p| |q|), the points that they share over the root of the points that they have.
Interpolating a noise image instead loses variance (a quarter is left midway between four pixels).
Source: catalogue rows 133 (CFD, arXiv 2501.05445) and 188 (GSD, arXiv 2406.16695), which do it with planes and clouds
of points.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdjax.errors import UserError
from kdjax.renderers.cameras import Orbit, Warp, grid

BACKGROUND = -1
"""The pixel of a point that a view does not show."""


def view_noise(
    noise: Float[Array, 'points channels'],
    pixel: Int[Array, ' pixels_of_points'],
    background: Float[Array, 'height width channels'],
) -> Float[Array, 'height width channels']:
    """The noise of one view.

    noise: standard normal draws on the points of the object. pixel: where each falls, row * width + column, or -1: from
    `footprints` or `on_canvas`. background: standard normal draws for pixels without a point, fixed or fresh.
    Raises UserError where points and pixels differ in number.
    """
    if len(noise) != len(pixel):
        raise UserError(f'noise on {len(noise)} points but pixels of {len(pixel)}: they are of the same points')
    height, width, channels = background.shape
    place = jnp.where(pixel < 0, height * width, pixel)
    sums = jax.ops.segment_sum(noise, place, height * width + 1)[:-1]
    counts = jax.ops.segment_sum(jnp.ones_like(noise[:, :1]), place, height * width + 1)[:-1]
    shown = sums / jnp.sqrt(jnp.maximum(counts, 1))
    return jnp.where(counts > 0, shown, background.reshape(-1, channels)).reshape(background.shape)


def on_canvas(
    points: Float[Array, 'points 2'], camera: Warp, height: int, width: int, *, wrap: bool = False
) -> Int[Array, ' points']:
    """The pixel of a view of a canvas into which each point of the canvas falls, or -1.

    wrap: the canvas goes on from its other side, and a point may lie one canvas further in any direction; a view that
    is larger than the canvas then has each point once.
    """
    found = jnp.full(len(points), BACKGROUND)
    for right in (0, -2, 2) if wrap else (0,):
        for down in (0, -2, 2) if wrap else (0,):
            moved = points + jnp.asarray([[right, down]], points.dtype)
            local = camera.from_canvas(moved)
            place = _pixel(0.5 * width * (local[:, 0] + 1), 0.5 * height * (local[:, 1] + 1), height, width)
            found = jnp.where(found < 0, place, found)
    return found


def footprints(
    points: Float[Array, 'points 3'],
    camera: Orbit,
    height: int,
    width: int,
    *,
    depth: Float[Array, '{height} {width}'] | None = None,
    tolerance: float | int = 0.2,
) -> Int[Array, ' points']:
    """The pixel of a view into which each point of a solid falls, or -1 where it is outside the view or hidden.

    depth: what the renderer's `trace` says; a point is seen where it lies within `tolerance` of that depth. Without it
        every point in front of the camera is.
    """
    local = camera.to_camera(points)
    ahead = local[:, 2] > 1e-3
    scale = camera.focal(height) / jnp.where(ahead, local[:, 2], 1.0)
    place = _pixel(local[:, 0] * scale + 0.5 * width, local[:, 1] * scale + 0.5 * height, height, width)
    seen = ahead
    if depth is not None:
        seen = seen & (jnp.abs(local[:, 2] - depth.reshape(-1)[jnp.maximum(place, 0)]) <= tolerance)
    return jnp.where(seen, place, BACKGROUND)


def canvas_points(rows: int, columns: int, dtype=jnp.float32) -> Float[Array, 'points 2']:
    """The centres of a grid over the canvas, row by row."""
    return grid(rows, columns, dtype).reshape(-1, 2)


def cube_points(size: int, dtype=jnp.float32) -> Float[Array, 'points 3']:
    """The centres of size^3 cells of the cube [-1, 1]^3."""
    axis = (2 * jnp.arange(size, dtype=dtype) + 1) / size - 1
    return jnp.stack(jnp.meshgrid(axis, axis, axis, indexing='ij'), -1).reshape(-1, 3)


def refreshed(noise: Float[Array, '*shape'], amount: float | int | Array, *, key: jax.Array) -> Float[Array, '*shape']:
    """sqrt(1 - amount) noise + sqrt(amount) fresh: unit variance at every amount in [0, 1].

    0 keeps the noise (the ODE), small amounts are the SDE of row 133 (1e-4), 1 is fresh noise.
    Raises UserError on a concrete amount outside [0, 1].
    """
    if not isinstance(amount, jax.core.Tracer) and not 0 <= float(amount) <= 1:
        raise UserError(f'{amount} of the noise cannot be fresh: choose from 0 to 1')
    share = jnp.asarray(amount, noise.dtype)
    return jnp.sqrt(1 - share) * noise + jnp.sqrt(share) * jax.random.normal(key, noise.shape, noise.dtype)


def _pixel(x: Array, y: Array, height: int, width: int) -> Array:
    row, column = jnp.floor(y), jnp.floor(x)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = jnp.where(inside, row * width + column, 0.0).astype(jnp.int32)
    return jnp.where(inside, place, BACKGROUND)
