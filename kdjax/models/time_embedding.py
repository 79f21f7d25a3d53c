"""What a diffusion network is told besides its input: the time, perhaps a second one, and the class."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from kdjax.errors import UserError
from kdjax.models import layers
from kdjax.models.tables import Table

HIGHEST = 100.0
"""Radians per unit of time. DDPM's embedding goes to 1000, and its derivative in t with it (arXiv 2410.11081, 4.1)."""


def fourier_features(
    t: Float[Array, ' batch'], width: int, *, highest: float | int = HIGHEST
) -> Float[Array, 'batch width']:
    """(cos w_i t, sin w_i t), w_i geometric from 1 to `highest` radians per unit of t, in float32 whatever t is.

    t: in 0..1. width: even, at least 4.
    """
    rates = jnp.asarray([highest ** (i / (width // 2 - 1)) for i in range(width // 2)], jnp.float32)
    angles = t.astype(jnp.float32)[:, None] * rates[None, :]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class Conditioning(nnx.Module):
    """One vector for times and class: an MLP on features of the times, plus a row of a table; in float32 throughout.

    classes: of the table, which has one more row, the null class `classes`; 0 for a network without classes.
    times: 1, or 2 for a pair (t, r), of which t and t - r are embedded (arXiv 2505.13447, sec. 4.3).
    """

    def __init__(self, width: int, *, classes: int, times: int, rngs: nnx.Rngs):
        self.width, self.classes, self.times = width, classes, times
        self.first = layers.linear(times * width, width, init=layers.lecun_normal, rngs=rngs)
        self.second = layers.linear(width, width, init=layers.lecun_normal, rngs=rngs)
        if classes:
            self.labels = Table(classes + 1, width, rngs=rngs)

    def __call__(self, t: Any, condition: jax.Array | None) -> jax.Array:
        features = [fourier_features(each, self.width) for each in self._embedded(t)]
        told = self.second(jax.nn.silu(self.first(jnp.concatenate(features, axis=-1))))
        if not self.classes:
            return told
        if condition is None:
            condition = jnp.full(len(told), self.classes, jnp.int32)
        return told + math.sqrt(self.width) * self.labels.as_type(jnp.float32)[condition]

    def _embedded(self, t: Any) -> tuple[jax.Array, ...]:
        given = len(t) if isinstance(t, tuple) else 1
        if given != self.times:
            raise UserError(
                f'a network of times={self.times} was given {given}: {_ASKED[self.times]}, or build it with '
                f'times={given}'
            )
        return (t[0], t[0] - t[1]) if self.times == 2 else (t[0] if isinstance(t, tuple) else t,)


_ASKED = {1: 'give it t alone', 2: 'give it the pair (t, r)'}


class Modulation(nnx.Module):
    """`parts` vectors for a block, `[batch, 1, ..., width]` each: a linear layer on silu(told) that starts at zero."""

    def __init__(self, told: int, width: int, parts: int, *, rngs: nnx.Rngs):
        self.parts = parts
        self.linear = layers.linear(told, parts * width, init=jax.nn.initializers.zeros, rngs=rngs)

    def __call__(self, told: jax.Array, like: jax.Array) -> list[jax.Array]:
        rows = self.linear(jax.nn.silu(told)).astype(like.dtype)
        rows = rows.reshape(len(rows), *(1,) * (like.ndim - 2), -1)
        return jnp.split(rows, self.parts, axis=-1)


def check_sizes(spec: str, *, width: int, classes: int, times: int) -> None:
    """Raises UserError for sizes that no conditioning has."""
    if width < 4 or width % 2:
        raise UserError(f'{spec}: the width {width} is even and at least 4, half cosines and half sines of the time')
    if classes < 0 or times not in (1, 2):
        raise UserError(f'{spec}: classes={classes} is at least 0 (no classes), times={times} is 1 or 2')


def specification(spec: str, *, shape: tuple[int, ...], classes: int, times: int, dtype: Any) -> str:
    """All that a network is built from: `unet-32-64(shape=(8, 8, 1), classes=10)`."""
    options = [f'shape={tuple(shape)}', f'classes={classes}']
    if times != 1:
        options.append(f'times={times}')
    if jnp.dtype(dtype) != jnp.float32:
        options.append(f"dtype='{jnp.dtype(dtype).name}'")
    return f'{spec}({", ".join(options)})'
