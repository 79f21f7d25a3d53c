"""A small U-Net that is told the time and the class, for images from 8x8 to 32x32."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import einops
import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import UserError
from kdjax.models import layers
from kdjax.models.model import Model, Outputs, Rules
from kdjax.models.norms import GroupNorm
from kdjax.models.seam import from_nnx
from kdjax.models.time_embedding import Conditioning, Modulation, check_sizes, specification

RULES: Rules = ((r'(stem|conv1|conv2|shortcut)/kernel', (None, None, None, 'tensor')),)
"""Every convolution computes a part of its channels."""


class Block(nnx.Module):
    """x + conv(silu((1 + scale) norm(conv(silu(norm(x)))) + shift)), scale and shift made of what is told.

    The second convolution starts at zero, so that a block starts as its shortcut (arXiv 2105.05233, sec. 3.1).
    """

    def __init__(self, inputs: int, outputs: int, told: int, *, dtype: Any, rngs: nnx.Rngs):
        self.norm1 = GroupNorm(inputs, rngs=rngs)
        self.conv1 = layers.conv(inputs, outputs, 3, dtype=dtype, rngs=rngs)
        self.modulation = Modulation(told, outputs, 2, rngs=rngs)
        self.norm2 = GroupNorm(outputs, rngs=rngs)
        self.conv2 = _silent(layers.conv(outputs, outputs, 3, dtype=dtype, rngs=rngs))
        self.projected = inputs != outputs
        if self.projected:
            self.shortcut = layers.conv(inputs, outputs, 1, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, told: jax.Array) -> jax.Array:
        residual = self.shortcut(x) if self.projected else x
        x = self.conv1(jax.nn.silu(self.norm1(x, train=False)))
        scale, shift = self.modulation(told, x)
        return residual + self.conv2(jax.nn.silu((1 + scale) * self.norm2(x, train=False) + shift))


class UNet(nnx.Module):
    """Patches, a block at each width on the way down, two in the middle, a block at each width on the way up.

    Between two widths the map is halved by averaging, and doubled by repeating (arXiv 1505.04597, with additive
    residual blocks as in arXiv 2006.11239, app. B; no attention).
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        patch: int,
        classes: int,
        times: int,
        *,
        dtype: Any,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        told = 2 * widths[0]
        self.patch, self.dtype, self.remat = patch, dtype, remat
        self.conditioning = Conditioning(told, classes=classes, times=times, rngs=rngs)
        self.stem = layers.conv(channels * patch**2, widths[0], 3, bias=True, dtype=dtype, rngs=rngs)
        block = functools.partial(Block, told=told, dtype=dtype, rngs=rngs)
        self.down = nnx.List([block(a, b) for a, b in itertools.pairwise((widths[0], *widths))])
        self.middle = nnx.List([block(widths[-1], widths[-1]) for _ in range(2)])
        self.up = nnx.List(
            [block(before + width, width) for before, width in itertools.pairwise((widths[-1], *widths[::-1]))]
        )
        self.norm = GroupNorm(widths[0], rngs=rngs)
        self.out = _silent(layers.conv(widths[0], channels * patch**2, 3, bias=True, rngs=rngs))

    def __call__(self, inputs: tuple[Any, ...], *, train: bool, key: jax.Array) -> Outputs:
        del train, key
        x, t, condition = inputs
        told = self.conditioning(t, condition)
        block = layers.block(Block.__call__, remat=self.remat)
        x = self.stem(_folded(x.astype(self.dtype), self.patch))
        taps, kept = {}, []
        for level, each in enumerate(self.down, start=1):
            x = block(each, x if level == 1 else _halved(x), told)
            kept.append(x)
            taps[f'down{level}'] = x
        for each in self.middle:
            x = block(each, x, told)
        taps['bottleneck'] = x
        taps['pooled'] = layers.spatial_mean(x)
        for level, each in enumerate(self.up, start=1):
            x = block(each, jnp.concatenate([x if level == 1 else _doubled(x), kept.pop()], axis=-1), told)
            taps[f'up{level}'] = x
        x = self.out(jax.nn.silu(self.norm(x, train=False)).astype(jnp.float32))
        return Outputs(_unfolded(x, self.patch), taps)


def unet(
    widths: Sequence[int],
    *,
    classes: int,
    image_shape: tuple[int, int, int],
    patch: int | None = None,
    times: int = 1,
    dtype: Any = jnp.float32,
    remat: bool = False,
) -> Model:
    """A U-Net: inputs `(x_t, t, condition)`, prediction the raw output `[batch, H, W, C]` in float32, at first zero.

    x_t: `[batch, H, W, C]`. t: `[batch]` in 0..1, or the pair `(t, r)` where times=2.
    condition: int classes `[batch]`, of which `classes` itself is the null class; None is that for all. With
        classes=0 it is not read.
    widths: channels at each resolution, each half of the one before. patch: side of the squares of pixels that become
        channels before all else; 1 for images below 16 pixels, else 2, as convolutions on whole images are slow on CPU.
    remat: blocks are computed again for the backward pass instead of being kept.
    taps: `down1`, ..., `bottleneck` (the smallest map, `[batch, h, w, channels]`), `up1`, ..., and `pooled`, the
        mean of the bottleneck over its places, `[batch, channels]` in float32.

    Normalisation is GroupNorm; there is no state. Raises UserError where sizes do not divide.
    """
    if patch is None:
        patch = 1 if min(image_shape[:2]) < 16 else 2
    spec = f'{"-".join(("unet", *map(str, widths)))}-p{patch}'
    if not widths or min(widths) < 1 or patch < 1:
        raise UserError(f'{spec}: a U-Net needs at least one width, all of them and the patch positive')
    check_sizes(spec, width=2 * widths[0], classes=classes, times=times)
    unit = patch * 2 ** (len(widths) - 1)
    if image_shape[0] % unit or image_shape[1] % unit:
        raise UserError(
            f'{spec}: the image {image_shape[0]}x{image_shape[1]} is not made of {unit}x{unit} squares, which become '
            'one place of the smallest map: fewer widths, or another patch'
        )

    def build(rngs: nnx.Rngs) -> UNet:
        return UNet(image_shape[-1], widths, patch, classes, times, dtype=dtype, remat=remat, rngs=rngs)

    under = functools.partial(
        unet, widths, classes=classes, image_shape=image_shape, patch=patch, times=times, dtype=dtype, remat=remat
    )
    name = specification(spec, shape=image_shape, classes=classes, times=times, dtype=dtype)
    return from_nnx(build, name=name, rules=RULES, under=under)


def _silent(conv: nnx.Conv) -> nnx.Conv:
    conv.kernel[...] = jnp.zeros_like(conv.kernel[...])
    return conv


def _folded(x: jax.Array, patch: int) -> jax.Array:
    return einops.rearrange(x, 'b (h p) (w q) c -> b h w (p q c)', p=patch, q=patch)


def _unfolded(x: jax.Array, patch: int) -> jax.Array:
    return einops.rearrange(x, 'b h w (p q c) -> b (h p) (w q) c', p=patch, q=patch)


def _halved(x: jax.Array) -> jax.Array:
    return einops.reduce(x, 'b (h p) (w q) c -> b h w c', 'mean', p=2, q=2)


def _doubled(x: jax.Array) -> jax.Array:
    return einops.repeat(x, 'b h w c -> b (h p) (w q) c', p=2, q=2)
