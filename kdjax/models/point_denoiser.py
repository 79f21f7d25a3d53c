"""A multilayer perceptron that is told the time and the class, for points of a few dimensions."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import UserError
from kdjax.models import layers
from kdjax.models.model import Model, Outputs, Rules
from kdjax.models.seam import from_nnx
from kdjax.models.time_embedding import Conditioning, Modulation, check_sizes, specification

RULES: Rules = (
    (r'expand/kernel', (None, 'tensor')),
    (r'expand/bias', ('tensor',)),
    (r'contract/kernel', ('tensor', None)),
)
"""Hidden units are split: one sum over devices a block (arXiv 1909.08053, sec. 3)."""


class Block(nnx.Module):
    """x + contract(silu((1 + scale) expand(x) + shift)), scale and shift made of what is told."""

    def __init__(self, width: int, *, dtype: Any, rngs: nnx.Rngs):
        self.modulation = Modulation(width, width, 2, rngs=rngs)
        self.expand = layers.linear(width, width, init=layers.he_normal, dtype=dtype, rngs=rngs)
        self.contract = layers.linear(width, width, init=layers.lecun_normal, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, told: jax.Array) -> jax.Array:
        hidden = self.expand(x)
        scale, shift = self.modulation(told, hidden)
        return x + self.contract(jax.nn.silu((1 + scale) * hidden + shift))


class PointDenoiser(nnx.Module):
    """Linear, plus what is told, blocks, linear back to the dimensions of the points."""

    def __init__(
        self, dims: int, width: int, depth: int, classes: int, times: int, *, dtype: Any, remat: bool, rngs: nnx.Rngs
    ):
        self.dtype, self.remat = dtype, remat
        self.conditioning = Conditioning(width, classes=classes, times=times, rngs=rngs)
        self.embed = layers.linear(dims, width, init=layers.lecun_normal, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List([Block(width, dtype=dtype, rngs=rngs) for _ in range(depth)])
        self.out = layers.linear(width, dims, init=jax.nn.initializers.zeros, rngs=rngs)

    def __call__(self, inputs: tuple[Any, ...], *, train: bool, key: jax.Array) -> Outputs:
        del train, key
        x, t, condition = inputs
        told = self.conditioning(t, condition)
        x = self.embed(x.astype(self.dtype)) + told.astype(self.dtype)
        taps, block = {}, layers.block(Block.__call__, remat=self.remat)
        for i, each in enumerate(self.blocks, start=1):
            x = taps[f'hidden{i}'] = block(each, x, told)
        taps['bottleneck'] = taps[f'hidden{-(-len(self.blocks) // 2)}']
        taps['pooled'] = x.astype(jnp.float32)
        return Outputs(self.out(jax.nn.silu(taps['pooled'])), taps)


def point_denoiser(
    width: int,
    depth: int,
    *,
    classes: int,
    dims: int = 2,
    times: int = 1,
    dtype: Any = jnp.float32,
    remat: bool = False,
) -> Model:
    """An MLP: inputs `(x_t, t, condition)`, prediction the raw output `[batch, dims]` in float32, at first zero.

    x_t: `[batch, dims]`. t, condition: as in `models.unet.unet`.

    taps: `hidden1` .. `hiddenN` `[batch, width]`; `bottleneck`, that in the middle of the depth; `pooled`, the last one
        in float32. There is no normalisation and no state. Raises UserError for sizes below 1.
    """
    spec = f'points-{width}-{depth}'
    if min(width, depth, dims) < 1:
        raise UserError(f'{spec}: width, depth and dims={dims} are positive')
    check_sizes(spec, width=width, classes=classes, times=times)

    def build(rngs: nnx.Rngs) -> PointDenoiser:
        return PointDenoiser(dims, width, depth, classes, times, dtype=dtype, remat=remat, rngs=rngs)

    under = functools.partial(
        point_denoiser, width, depth, classes=classes, dims=dims, times=times, dtype=dtype, remat=remat
    )
    name = specification(spec, shape=(dims,), classes=classes, times=times, dtype=dtype)
    return from_nnx(build, name=name, rules=RULES, under=under)
