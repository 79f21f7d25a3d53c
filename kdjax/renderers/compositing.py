"""Layers over one another, from the front to the back."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.errors import UserError


def front_to_back(
    alpha: Float[Array, '*pixels layers'],
) -> tuple[Float[Array, '*pixels layers'], Float[Array, '*pixels']]:
    """Weights of layers, the first in front, and what they let through.

    weight_i = alpha_i prod_{j < i} (1 - alpha_j); the rest is prod_j (1 - alpha_j), and all of them sum to 1. Exact at
    alpha = 1, where the gradient is finite too.
    Source: 3D Gaussian splatting, arXiv 2308.04079, equation 3.
    """
    passed = jnp.cumprod(1 - alpha, axis=-1)
    before = jnp.concatenate([jnp.ones_like(passed[..., :1]), passed[..., :-1]], axis=-1)
    return alpha * before, passed[..., -1]


def painted(
    weights: Float[Array, '*pixels layers'],
    rest: Float[Array, '*pixels'],
    colour: Float[Array, 'layers channels'],
    background: float | int | tuple[float, ...],
) -> Float[Array, '*pixels channels']:
    """Colours of layers under these weights, and the background in the rest."""
    return weights @ colour + rest[..., None] * ground(background, colour, rest.ndim + 1)


def ground(background: float | int | tuple[float, ...], colour: Array, ndim: int) -> Array:
    """The background as `[1, ..., channels]` in the type of the colours. Raises UserError on another number of them."""
    channels = colour.shape[-1]
    values = background if isinstance(background, tuple) else (background,) * channels
    if len(values) != channels:
        raise UserError(f'background={background} for {channels} channels: give one number, or one for each channel')
    return jnp.asarray(values, colour.dtype).reshape((1,) * (ndim - 1) + (channels,))
