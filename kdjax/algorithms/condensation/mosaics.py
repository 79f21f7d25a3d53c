"""Factorised storage: one stored image is several for the network."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.errors import UserError


def decoded(images: jax.Array, factor: int) -> jax.Array:
    """Every stored image cut into `factor` x `factor` tiles, each enlarged to full size, bilinear.

    `[n, classes, H, W, C]` -> `[factor^2 * n, classes, H, W, C]`, the tiles of an image one after the other. The way
    back of `kdjax.data.condensed.factorised`; differentiable. Raises UserError where the factor divides no side.
    Source: IDC, arXiv 2205.14959, section 3.2; NCFM uses factor 2.
    """
    count, classes, height, width, channels = images.shape
    if factor < 1 or height % factor or width % factor:
        raise UserError(f'images of {height} x {width} in tiles of {factor} x {factor}: the factor divides both sides')
    low, narrow = height // factor, width // factor
    cut = images.reshape(count, classes, factor, low, factor, narrow, channels)
    tiles = jnp.transpose(cut, (0, 2, 4, 1, 3, 5, 6)).reshape(count * factor**2, classes, low, narrow, channels)
    shape = (count * factor**2, classes, height, width, channels)
    return jax.image.resize(tiles, shape, 'bilinear')


def repeated_labels(labels: jax.Array, factor: int) -> jax.Array:
    """The labels of `decoded` images: those of each stored image, `factor`^2 times."""
    return jnp.repeat(labels, factor**2, axis=0)
