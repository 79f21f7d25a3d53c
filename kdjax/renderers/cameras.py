"""Cameras as small pytrees: views of a canvas (`Warp`), and orbits around a solid (`Orbit`).

A canvas covers [-1, 1] x [-1, 1], x to the right and y down. A solid lies in [-1, 1]^3 around the origin, z up; a
camera looks at the origin, and its own axes are right, down and forward, as in OpenCV. Pixel (row i, column j) covers
[j, j + 1) x [i, i + 1); pixels are square. Arrays of a camera may have leading axes: then it is several cameras.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdjax.errors import UserError

Number = float | int | jax.Array | np.ndarray
C = TypeVar('C')

FIELD_OF_VIEW = math.radians(50.0)

Leaf = Any
"""An array, or what JAX puts in its place while it looks at the structure of a pytree."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Warp:
    """A view of a canvas: the point p of the view shows matrix p + shift of the canvas; both in [-1, 1]^2.

    matrix: [*views, 2, 2]. shift: [*views, 2].
    """

    matrix: Leaf
    shift: Leaf

    def to_canvas(self, points: Float[Array, '*points 2']) -> Float[Array, '*points 2']:
        """Of one view."""
        return points @ self.matrix.T + _beside(self.shift, points)

    def from_canvas(self, points: Float[Array, '*points 2']) -> Float[Array, '*points 2']:
        """The inverse; the matrix must have one."""
        (a, b), (c, d) = self.matrix
        inverse = jnp.stack([jnp.stack([d, -b]), jnp.stack([-c, a])]) / (a * d - b * c)
        return (points - _beside(self.shift, points)) @ inverse.T


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Orbit:
    """A camera on a sphere around the origin, which it looks at; all fields are `[*views]`.

    azimuth: radians from the x axis towards y. elevation: radians above the plane z = 0. distance: to the origin.
    field_of_view: radians, from the upper to the lower edge of the image.
    """

    azimuth: Leaf
    elevation: Leaf
    distance: Leaf
    field_of_view: Leaf

    def axes(self) -> Float[Array, '*views 3 3']:
        """Right, down and forward in the world, as rows; defined at the poles too."""
        ca, sa, ce, se = *_turn(self.azimuth), *_turn(self.elevation)
        rows = (-sa, ca, jnp.zeros_like(sa)), (se * ca, se * sa, -ce), (-ce * ca, -ce * sa, -se)
        return jnp.stack([jnp.stack(row, -1) for row in rows], -2)

    def position(self) -> Float[Array, '*views 3']:
        return -self.axes()[..., 2, :] * self.distance[..., None]

    def to_camera(self, points: Float[Array, '*points 3']) -> Float[Array, '*points 3']:
        """Points of the world in the axes of one camera; the last coordinate is the depth."""
        return (points - _beside(self.position(), points)) @ self.axes().T

    def focal(self, height: int) -> Float[Array, '*views']:
        """Focal length in pixels."""
        return 0.5 * height / jnp.tan(0.5 * self.field_of_view)

    def rays(self, height: int, width: int) -> tuple[Float[Array, ' 3'], Float[Array, '{height} {width} 3']]:
        """The position of one camera, and directions through the centres of its pixels with depth 1 (not length 1)."""
        like = self.azimuth.dtype
        across, down = jnp.meshgrid(
            jnp.arange(width, dtype=like) + 0.5 - 0.5 * width, jnp.arange(height, dtype=like) + 0.5 - 0.5 * height
        )
        focal = self.focal(height)
        local = jnp.stack([across / focal, down / focal, jnp.ones_like(across)], -1)
        return self.position(), local @ self.axes()


def whole(dtype: Any = jnp.float32) -> Warp:
    """The whole canvas."""
    return Warp(jnp.eye(2, dtype=dtype), jnp.zeros(2, dtype))


def crop(
    centre: tuple[Number, Number] = (0.0, 0.0),
    size: Number | tuple[Number, Number] = 1.0,
    angle: Number = 0.0,
    *,
    dtype: Any = jnp.float32,
) -> Warp:
    """A view of a part of the canvas.

    centre: of the view, on the canvas (x, y). size: of the view over that of the canvas, one number or (x, y).
    angle: radians by which the view is turned, from x towards y.
    Raises UserError where these are concrete and the view would hold nothing of the canvas, or no area.
    """
    across, down = size if isinstance(size, tuple) else (size, size)
    c, s = _turn(jnp.asarray(angle, dtype))
    across, down = jnp.asarray(across, dtype), jnp.asarray(down, dtype)
    matrix = jnp.stack([jnp.stack([c * across, -s * down]), jnp.stack([s * across, c * down])])
    made = Warp(matrix, jnp.stack([jnp.asarray(x, dtype) for x in centre]))
    check_camera(made)
    return made


def orbit(
    azimuth: Number,
    elevation: Number = 0.0,
    distance: Number = 3.0,
    field_of_view: Number = FIELD_OF_VIEW,
    *,
    dtype: Any = jnp.float32,
) -> Orbit:
    """An orbit camera from numbers or arrays, which are broadcast against one another.

    The ball of radius 1 fits the image at 3 and 50 degrees with a little room. Raises UserError where they are
    concrete and the camera would see nothing.
    """
    parts = [np.shape(x) for x in (azimuth, elevation, distance, field_of_view)]
    shape = np.broadcast_shapes(*parts)
    fields = (jnp.asarray(x, dtype) for x in (azimuth, elevation, distance, field_of_view))
    made = Orbit(*(x if x.shape == shape else jnp.broadcast_to(_padded(x, len(shape)), shape) for x in fields))
    check_camera(made)
    return made


def stacked(cameras: Sequence[C]) -> C:
    """Cameras of one kind as one, with a new first axis. Raises UserError on none."""
    if not cameras:
        raise UserError('no cameras to stack: give at least one')
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *cameras)


def check_camera(camera: Warp | Orbit) -> None:
    """Raises UserError on a camera that sees nothing; under a trace, where values are unknown, it does nothing."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(camera)):
        return
    if isinstance(camera, Orbit):
        _check_orbit(camera)
    else:
        _check_warp(camera)


def grid(height: int, width: int, dtype: Any) -> Float[Array, '{height} {width} 2']:
    """(x, y) of the centres of pixels on a canvas."""
    x = (2 * jnp.arange(width, dtype=dtype) + 1) / width - 1
    y = (2 * jnp.arange(height, dtype=dtype) + 1) / height - 1
    return jnp.stack(jnp.meshgrid(x, y), -1)


def _check_orbit(camera: Orbit) -> None:
    view, distance = np.asarray(camera.field_of_view), np.asarray(camera.distance)
    if not (np.all(view > 0) and np.all(view < math.pi)):
        raise UserError(f'a field of view of {view} radians sees nothing: choose between 0 and pi')
    if not (np.all(distance > 0) and all(np.isfinite(x).all() for x in jax.tree.leaves(camera))):
        raise UserError(f'a camera at distance {distance} sees nothing: distances are above 0, and angles finite')


def _check_warp(camera: Warp) -> None:
    matrix, shift = np.asarray(camera.matrix, np.float64), np.asarray(camera.shift, np.float64)
    if not (np.isfinite(matrix).all() and np.isfinite(shift).all() and np.all(np.abs(np.linalg.det(matrix)) > 1e-12)):
        raise UserError(f'a view with the matrix {matrix.tolist()} has no area: sizes are above 0')
    reach = np.abs(matrix).sum(-1)
    if np.any(np.abs(shift) - reach >= 1):
        raise UserError(
            f'a view around {shift.tolist()} that reaches {reach.tolist()} sees nothing of the canvas [-1, 1]^2: '
            'move it or make it larger'
        )


def _turn(angle: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.cos(angle), jnp.sin(angle)


def _beside(vector: jax.Array, points: jax.Array) -> jax.Array:
    return jnp.reshape(vector, (1,) * (points.ndim - 1) + (-1,))


def _padded(x: jax.Array, ndim: int) -> jax.Array:
    return jnp.reshape(x, (1,) * (ndim - x.ndim) + x.shape)
