"""Small vision transformers."""

from __future__ import annotations

import functools
from typing import Any

import einops
import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import UserError, unknown
from kdjax.models import layers
from kdjax.models.model import Model, Outputs, Rules
from kdjax.models.seam import from_nnx

RULES: Rules = (
    (r'attention/qkv/kernel', (None, 'tensor')),
    (r'attention/qkv/bias', ('tensor',)),
    (r'attention/out/kernel', ('tensor', None)),
    (r'expand/kernel', (None, 'tensor')),
    (r'expand/bias', ('tensor',)),
    (r'contract/kernel', ('tensor', None)),
)
"""Heads and hidden units are split, so that a block has two sums over devices (arXiv 1909.08053, sec. 3)."""


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(var + 1e-6) * scale + bias over the last axis, computed in float32."""

    def __init__(self, features: int):
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        normal = jax.nn.standardize(x.astype(jnp.float32), axis=-1, epsilon=1e-6)
        rows = (1,) * (x.ndim - 1) + (-1,)
        return (normal * self.scale[...].reshape(rows) + self.bias[...].reshape(rows)).astype(x.dtype)


class Attention(nnx.Module):
    """Multi-head softmax attention of a sequence to itself, scaled by 1/sqrt(width / heads).

    The outputs of `qkv` are (heads, three, width / heads): the queries, keys and values of a head lie side by side, so
    that a split of the output axis is a split by heads.
    """

    def __init__(self, width: int, heads: int, *, bias: bool, init: Any, dtype: Any, rngs: nnx.Rngs):
        self.heads = heads
        self.qkv = layers.linear(width, 3 * width, bias=bias, init=init, dtype=dtype, rngs=rngs)
        self.out = layers.linear(width, width, init=init, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        q, k, v = einops.rearrange(self.qkv(x), 'b t (n three d) -> three b t n d', three=3, n=self.heads)
        scores = jnp.einsum('b t n d, b s n d -> b n t s', q, k, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores * q.shape[-1] ** -0.5, axis=-1).astype(v.dtype)
        mixed = jnp.einsum('b n t s, b s n d -> b t n d', weights, v)
        return self.out(einops.rearrange(mixed, 'b t n d -> b t (n d)'))


class Block(nnx.Module):
    """Pre-norm: x + attention(norm(x)), then x + mlp(norm(x)) the MLP four times as wide, with a GELU."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        qkv_bias: bool = True,
        init: Any = layers.xavier_uniform,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.norm1 = LayerNorm(width)
        self.attention = Attention(width, heads, bias=qkv_bias, init=init, dtype=dtype, rngs=rngs)
        self.norm2 = LayerNorm(width)
        self.expand = layers.linear(width, 4 * width, init=init, dtype=dtype, rngs=rngs)
        self.contract = layers.linear(4 * width, width, init=init, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm1(x))
        return x + self.contract(jax.nn.gelu(self.expand(self.norm2(x)), approximate=False))


class ViT(nnx.Module):
    """Patches, learned positions, pre-norm blocks, norm, pooling, linear (arXiv 2010.11929, sec. 3.1)."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        width: int,
        depth: int,
        patch: int,
        heads: int,
        classes: int,
        *,
        pooling: str,
        dtype: Any,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        height, wide, channels = image_shape
        tokens = (height // patch) * (wide // patch)
        self.patch, self.dtype, self.remat = patch, dtype, remat
        self.embed = layers.linear(
            patch * patch * channels, width, init=layers.lecun_normal, dtype=dtype, rngs=rngs
        )
        self.has_class_token = pooling == 'token'
        if self.has_class_token:
            self.class_token = nnx.Param(jnp.zeros((1, 1, width), jnp.float32))
        positions = layers.truncated_normal(
            rngs.params(), (1, tokens + self.has_class_token, width), jnp.float32
        )
        self.position = nnx.Param(positions)
        self.blocks = nnx.List([Block(width, heads, dtype=dtype, rngs=rngs) for _ in range(depth)])
        self.norm = LayerNorm(width)
        self.classifier = layers.linear(width, classes, init=layers.truncated_normal, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array) -> Outputs:
        del train, key
        patches = einops.rearrange(
            x.astype(self.dtype), 'b (h p) (w q) c -> b (h w) (p q c)', p=self.patch, q=self.patch
        )
        x = self.embed(patches)
        if self.has_class_token:
            token = jnp.broadcast_to(self.class_token[...].astype(self.dtype), (x.shape[0], 1, x.shape[-1]))
            x = jnp.concatenate([token, x], axis=1)
        x = x + jnp.broadcast_to(self.position[...].astype(self.dtype), x.shape)
        taps, depth, block = {}, len(self.blocks), layers.block(Block.__call__, remat=self.remat)
        for i, each in enumerate(self.blocks, start=1):
            x = taps[f'block{i}'] = block(each, x)
        for stage in range(1, 5):
            taps[f'stage{stage}'] = taps[f'block{-(-stage * depth // 4)}']
        x = self.norm(x)
        taps['pooled'] = x[:, 0].astype(jnp.float32) if self.has_class_token else layers.spatial_mean(x)
        return Outputs(self.classifier(taps['pooled']), taps)


def vit(
    width: int,
    depth: int,
    *,
    classes: int,
    image_shape: tuple[int, int, int],
    patch: int | None = None,
    heads: int = 4,
    pooling: str = 'mean',
    dtype: Any = jnp.float32,
    remat: bool = False,
) -> Model:
    """A ViT for small images, MLP ratio 4, without dropout.

    patch: side of a patch in pixels; 2 for images below 16 pixels (16 tokens at 8x8), else 4 (49 tokens at
        28x28, 64 at 32x32).
    pooling: 'mean' of the normalised tokens (arXiv 2205.01580), or a class 'token', which then comes first in
        every sequence.
    remat: blocks are computed again for the backward pass instead of being kept.
    taps: `block1` .. `blockN`, tokens `[batch, tokens, width]`; `stage1` .. `stage4`, those at the end of
        each quarter of the depth, rounded up (shallow models repeat one); `pooled` `[batch, width]`, after
        the final norm.

    Normalisation is LayerNorm; there is no state. Raises UserError where sizes do not divide.
    """
    if patch is None:
        patch = 2 if min(image_shape[:2]) < 16 else 4
    spec = f'vit-{width}-{depth}-p{patch}-h{heads}'
    if min(width, depth, patch, heads) < 1 or width % heads:
        raise UserError(f'{spec}: width, depth, patch and heads are positive, and heads divides width')
    if image_shape[0] % patch or image_shape[1] % patch:
        raise UserError(f'{spec}: patch {patch} does not divide the image {image_shape[0]}x{image_shape[1]}')
    if pooling not in ('mean', 'token'):
        raise unknown('pooling', pooling, ('mean', 'token'))

    def build(rngs: nnx.Rngs) -> ViT:
        return ViT(
            image_shape, width, depth, patch, heads, classes, pooling=pooling, dtype=dtype, remat=remat, rngs=rngs
        )

    under = functools.partial(
        vit, width, depth, classes=classes, image_shape=image_shape,
        patch=patch, heads=heads, pooling=pooling, dtype=dtype, remat=remat,
    )  # fmt: skip
    spec += '-token' if pooling == 'token' else ''
    name = layers.specification(spec, classes=classes, image_shape=image_shape, dtype=dtype)
    return from_nnx(build, name=name, rules=RULES, under=under)
