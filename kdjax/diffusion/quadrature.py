"""Integrals over a box in one or two dimensions, for densities that nobody can integrate by hand."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdjax.errors import UserError

LogDensity = Callable[[Array], Array]
"""`[points, dim]` -> `[points]`, in nats."""


class Grid(NamedTuple):
    """Points of a box and the volume that each stands for."""

    points: Float[Array, 'points dim']
    volume: float


def grid(low: float | int, high: float | int, points: int = 200, *, dim: int = 2) -> Grid:
    """Midpoints of `points` cells along each of `dim` axes of the cube [low, high]^dim.

    For smooth densities that vanish at the border the sum converges faster than any power of the width of a cell.
    Raises UserError on more than two dimensions, or an empty box.
    """
    if dim not in (1, 2) or not low < high:
        raise UserError(f'a grid of {dim} dimensions from {low} to {high}: one or two dimensions, low < high')
    width = (high - low) / points
    line = low + width * (np.arange(points) + 0.5)
    return Grid(jnp.asarray(list(itertools.product(line, repeat=dim)), float), float(width**dim))


def integral(values: Float[Array, '*points'], volume: float) -> Float[Array, '']:
    """Of a function given at the points of a grid."""
    return jnp.sum(values) * volume


def kl(first: LogDensity, second: LogDensity, over: Grid) -> Float[Array, '']:
    """KL(first || second) in nats; both densities are taken as they are, normalised or not."""
    log_p, log_q = first(over.points), second(over.points)
    return integral(jnp.exp(log_p) * (log_p - log_q), over.volume)


def expectation(values: Callable[[Array], Array], density: LogDensity, over: Grid) -> Float[Array, '*event']:
    """E[values(x)] under the density; `values` returns `[points, ...]`."""
    found = values(over.points)
    weights = jnp.exp(density(over.points)) * over.volume
    return jnp.tensordot(weights, found, axes=1)
