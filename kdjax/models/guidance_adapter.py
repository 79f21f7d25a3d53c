"""A DiT with adapters at its attention that are told a guidance scale: inputs `(x_t, t, (class, scale))`."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import UserError, unknown
from kdjax.models import dit as plain
from kdjax.models import layers
from kdjax.models.model import Model
from kdjax.models.seam import from_nnx
from kdjax.models.time_embedding import fourier_features
from kdjax.models.vit import RULES

FORMS = ('offset', 'attention')
ADAPTERS = 'adapter'
"""Finds the paths of the adapters' weights: `train_only(model, ADAPTERS)` holds the network."""


class _Offset(nnx.Module):
    """An MLP of what is told, the same for all tokens."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs):
        self.expand = layers.linear(2 * width, hidden, init=layers.he_normal, rngs=rngs)
        self.contract = layers.linear(hidden, width, init=jax.nn.initializers.zeros, rngs=rngs)

    def __call__(self, x: jax.Array, told: jax.Array) -> jax.Array:
        row = self.contract(jax.nn.silu(self.expand(told.reshape(len(told), -1))))
        return jnp.broadcast_to(row[:, None], x.shape).astype(x.dtype)


class _Attention(nnx.Module):
    """Tokens attend to two, one of the scale and one of time and class: what is added depends on the token."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs):
        self.query = layers.linear(width, hidden, init=layers.xavier_uniform, rngs=rngs)
        self.key = layers.linear(width, hidden, init=layers.xavier_uniform, rngs=rngs)
        self.value = layers.linear(width, hidden, init=layers.xavier_uniform, rngs=rngs)
        self.out = layers.linear(hidden, width, init=jax.nn.initializers.zeros, rngs=rngs)

    def __call__(self, x: jax.Array, told: jax.Array) -> jax.Array:
        query, key, value = self.query(x.astype(jnp.float32)), self.key(told), self.value(told)
        scores = jnp.einsum('btd,bsd->bts', query, key) / math.sqrt(query.shape[-1])
        mixed = jnp.einsum('bts,bsd->btd', jax.nn.softmax(scores, axis=-1), value)
        return self.out(mixed).astype(x.dtype)


class _Block(plain.Block):
    """attention(x) + adapter(x, told) in place of attention(x)."""

    adapter: nnx.Module

    def _attended(self, x: jax.Array, *more: jax.Array) -> jax.Array:
        (told,) = more
        return self.attention(x) + self.adapter(x, told)


class _AdaptedDiT(plain.DiT):
    BLOCK = _Block

    def __init__(self, *sizes: Any, form: str, hidden: int, largest: float, rngs: nnx.Rngs, **options: Any):
        super().__init__(*sizes, rngs=rngs, **options)
        width = sizes[1]
        self.largest = largest
        self.adapter_first = layers.linear(width, width, init=layers.lecun_normal, rngs=rngs)
        self.adapter_second = layers.linear(width, width, init=layers.lecun_normal, rngs=rngs)
        for block in self.blocks:
            assert isinstance(block, _Block)
            block.adapter = (_Offset if form == 'offset' else _Attention)(width, hidden, rngs=rngs)

    def _told(self, t: Any, condition: Any) -> tuple[jax.Array, ...]:
        label, scale = condition if isinstance(condition, tuple) else (condition, jnp.ones_like(t))
        told = self.conditioning(t, label)
        features = fourier_features(scale / self.largest, told.shape[-1], highest=10.0)
        of_scale = self.adapter_second(jax.nn.silu(self.adapter_first(features)))
        both = jax.nn.standardize(jnp.stack([of_scale, told], axis=1), axis=-1, epsilon=1e-6)
        return told, both


def adapted_dit(
    width: int,
    depth: int,
    *,
    classes: int,
    image_shape: tuple[int, int, int],
    form: str = 'attention',
    hidden: int | None = None,
    largest: float = 10.0,
    patch: int = 2,
    heads: int = 4,
    dtype: Any = jnp.float32,
    remat: bool = False,
) -> Model:
    """A DiT whose every block adds to its attention what an adapter makes of guidance scale, time and class.

    Its condition is the pair (class, scale), `[batch]` each; the class alone is scale 1. Its weights are those of
    `models.dit.dit` and, at paths that `ADAPTERS` finds, those of the adapters, which say 0 at first: it begins as the
    DiT that is told the class.

    form: 'offset', one vector for all tokens, or 'attention', which depends on the token. hidden: width of an adapter,
        by default that of the network. largest: scale of guidance; up to it the embedding tells scales apart well.
    Raises UserError on another form and as `models.dit.dit`.
    Source: AGD, arXiv 2503.07274, and its code (cristianpjensen/agd, agd/models), whose adapters may leave time and
    class out, and whose attention has a token for each.
    """
    if form not in FORMS:
        raise unknown('form of adapters', form, FORMS)
    if hidden is not None and hidden < 1:
        raise UserError(f'adapters of hidden={hidden}: their width is positive')
    base = plain.dit(width, depth, classes=classes, image_shape=image_shape, patch=patch, heads=heads)
    sizes = image_shape, width, depth, patch, heads, classes, 1

    def build(rngs: nnx.Rngs) -> _AdaptedDiT:
        return _AdaptedDiT(
            *sizes, form=form, hidden=hidden or width, largest=largest, dtype=dtype, remat=remat, rngs=rngs
        )

    under = functools.partial(
        adapted_dit, width, depth, classes=classes, image_shape=image_shape, form=form, hidden=hidden,
        largest=largest, patch=patch, heads=heads, dtype=dtype, remat=remat,
    )  # fmt: skip
    name = f'adapted({base.name}, form={form!r}, hidden={hidden or width}, largest={largest:g})'
    return from_nnx(build, name=name, rules=RULES, under=under)
