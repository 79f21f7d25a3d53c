"""A small diffusion transformer (arXiv 2212.09748)."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import einops
import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import UserError
from kdjax.models import layers
from kdjax.models.model import Model, Outputs
from kdjax.models.seam import from_nnx
from kdjax.models.time_embedding import Conditioning, Modulation, check_sizes, specification
from kdjax.models.vit import RULES, Attention


class Block(nnx.Module):
    """x + g1 attention(n1(x)), then x + g2 mlp(n2(x)); n(x) = (1 + scale) norm(x) + shift (adaLN-zero, sec. 3.2).

    Scales, shifts and gates are made of what is told and start at zero: a block starts as the identity.
    """

    def __init__(self, width: int, heads: int, *, dtype: Any, rngs: nnx.Rngs):
        self.modulation = Modulation(width, width, 6, rngs=rngs)
        self.attention = Attention(width, heads, bias=True, init=layers.xavier_uniform, dtype=dtype, rngs=rngs)
        self.expand = layers.linear(width, 4 * width, init=layers.xavier_uniform, dtype=dtype, rngs=rngs)
        self.contract = layers.linear(4 * width, width, init=layers.xavier_uniform, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, told: jax.Array, *more: jax.Array) -> jax.Array:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(told, x)
        x = x + gate1 * self._attended((1 + scale1) * _normal(x) + shift1, *more)
        hidden = jax.nn.gelu(self.expand((1 + scale2) * _normal(x) + shift2), approximate=True)
        return x + gate2 * self.contract(hidden)

    def _attended(self, x: jax.Array, *more: jax.Array) -> jax.Array:
        del more
        return self.attention(x)


class DiT(nnx.Module):
    """Patches, learned positions, blocks, modulated norm, linear back to patches."""

    BLOCK: ClassVar[type[Block]] = Block

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        width: int,
        depth: int,
        patch: int,
        heads: int,
        classes: int,
        times: int,
        *,
        dtype: Any,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        height, wide, channels = image_shape
        pixels = patch * patch * channels
        self.rows, self.patch, self.dtype, self.remat = height // patch, patch, dtype, remat
        self.conditioning = Conditioning(width, classes=classes, times=times, rngs=rngs)
        self.embed = layers.linear(pixels, width, init=layers.lecun_normal, dtype=dtype, rngs=rngs)
        places = (1, (height // patch) * (wide // patch), width)
        self.position = nnx.Param(layers.truncated_normal(rngs.params(), places, jnp.float32))
        self.blocks = nnx.List([self.BLOCK(width, heads, dtype=dtype, rngs=rngs) for _ in range(depth)])
        self.modulation = Modulation(width, width, 2, rngs=rngs)
        self.out = layers.linear(width, pixels, init=jax.nn.initializers.zeros, rngs=rngs)

    def __call__(self, inputs: tuple[Any, ...], *, train: bool, key: jax.Array) -> Outputs:
        del train, key
        x, t, condition = inputs
        told, *more = self._told(t, condition)
        x = einops.rearrange(x.astype(self.dtype), 'b (h p) (w q) c -> b (h w) (p q c)', p=self.patch, q=self.patch)
        x = self.embed(x)
        x = x + jnp.broadcast_to(self.position[...].astype(self.dtype), x.shape)
        taps, block = {}, layers.block(self.BLOCK.__call__, remat=self.remat)
        for i, each in enumerate(self.blocks, start=1):
            x = taps[f'block{i}'] = block(each, x, told, *more)
        taps['bottleneck'] = taps[f'block{-(-len(self.blocks) // 2)}']
        taps['pooled'] = layers.spatial_mean(_normal(x))
        scale, shift = self.modulation(told, x)
        x = self.out(((1 + scale) * _normal(x) + shift).astype(jnp.float32))
        whole = einops.rearrange(x, 'b (h w) (p q c) -> b (h p) (w q) c', h=self.rows, p=self.patch, q=self.patch)
        return Outputs(whole, taps)

    def _told(self, t: Any, condition: Any) -> tuple[jax.Array, ...]:
        """What blocks are told; the first is also told the last layer."""
        return (self.conditioning(t, condition),)


def dit(
    width: int,
    depth: int,
    *,
    classes: int,
    image_shape: tuple[int, int, int],
    patch: int | None = None,
    heads: int = 4,
    times: int = 1,
    dtype: Any = jnp.float32,
    remat: bool = False,
) -> Model:
    """A DiT: inputs `(x_t, t, condition)`, prediction the raw output `[batch, H, W, C]` in float32, at first zero.

    Inputs are those of `models.unet.unet`.

    patch: side of a patch in pixels; 2 for images below 16 pixels (16 tokens at 8x8), else 4 (49 tokens at 28x28).
    remat: blocks are computed again for the backward pass instead of being kept.
    taps: `block1` .. `blockN`, tokens `[batch, tokens, width]`; `bottleneck`, that in the middle of the depth; `pooled`
        `[batch, width]`, the mean of the normalised last tokens, in float32.

    There is no state. Raises UserError where sizes do not divide.
    """
    if patch is None:
        patch = 2 if min(image_shape[:2]) < 16 else 4
    spec = f'dit-{width}-{depth}-p{patch}-h{heads}'
    if min(width, depth, patch, heads) < 1 or width % heads:
        raise UserError(f'{spec}: width, depth, patch and heads are positive, and heads divides width')
    check_sizes(spec, width=width, classes=classes, times=times)
    if image_shape[0] % patch or image_shape[1] % patch:
        raise UserError(f'{spec}: patch {patch} does not divide the image {image_shape[0]}x{image_shape[1]}')

    def build(rngs: nnx.Rngs) -> DiT:
        return DiT(image_shape, width, depth, patch, heads, classes, times, dtype=dtype, remat=remat, rngs=rngs)

    under = functools.partial(
        dit, width, depth, classes=classes, image_shape=image_shape,
        patch=patch, heads=heads, times=times, dtype=dtype, remat=remat,
    )  # fmt: skip
    name = specification(spec, shape=image_shape, classes=classes, times=times, dtype=dtype)
    return from_nnx(build, name=name, rules=RULES, under=under)


def _normal(x: jax.Array) -> jax.Array:
    """(x - mean) / sqrt(var + 1e-6) over the last axis, computed in float32."""
    return jax.nn.standardize(x.astype(jnp.float32), axis=-1, epsilon=1e-6).astype(x.dtype)
