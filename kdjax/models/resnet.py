"""Residual networks for small images: CIFAR ResNets of depth 6n + 2, and wide ResNets of depth 6n + 4.

The same networks as the distillation literature compares (RepDistiller, mdistiller): `resnet8` ..
`resnet110`, and `x4` with stage widths 64, 128, 256 behind a stem of 32. Images may have any size and any
number of channels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import UserError
from kdjax.models import layers
from kdjax.models.model import Model, Outputs, Rules
from kdjax.models.norms import norm_layer
from kdjax.models.seam import from_nnx

RULES: Rules = ((r'(stem|conv1|conv2|shortcut)/kernel', (None, None, None, 'tensor')),)
"""Every convolution computes a part of its channels."""


class Block(nnx.Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))); the shortcut is projected where its shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, norm: type, dtype: Any, rngs: nnx.Rngs):
        self.conv1 = layers.conv(inputs, outputs, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.norm1 = norm(outputs, rngs=rngs)
        self.conv2 = layers.conv(outputs, outputs, 3, dtype=dtype, rngs=rngs)
        self.norm2 = norm(outputs, rngs=rngs)
        self.projected = stride != 1 or inputs != outputs
        if self.projected:
            self.shortcut = layers.conv(inputs, outputs, 1, stride=stride, dtype=dtype, rngs=rngs)
            self.shortcut_norm = norm(outputs, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        residual = self.shortcut_norm(self.shortcut(x), train=train) if self.projected else x
        x = jax.nn.relu(self.norm1(self.conv1(x), train=train))
        return jax.nn.relu(residual + self.norm2(self.conv2(x), train=train))


class ResNet(nnx.Module):
    """Stem, three stages (the last two halve the map), mean, linear (arXiv 1512.03385, sec. 4.2)."""

    def __init__(
        self,
        channels: int,
        blocks: int,
        widths: tuple[int, int, int, int],
        classes: int,
        *,
        norm: str,
        dtype: Any,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        normalise = norm_layer(norm)
        self.dtype, self.remat = dtype, remat
        self.stem = layers.conv(channels, widths[0], 3, dtype=dtype, rngs=rngs)
        self.stem_norm = normalise(widths[0], rngs=rngs)
        block = functools.partial(Block, norm=normalise, dtype=dtype, rngs=rngs)
        self.stage1, self.stage2, self.stage3 = _stages(block, blocks, widths)
        self.classifier = layers.linear(widths[-1], classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array) -> Outputs:
        del key
        x = jax.nn.relu(self.stem_norm(self.stem(x.astype(self.dtype)), train=train))
        taps, block = {'stem': x}, layers.block(Block.__call__, remat=self.remat, train=train)
        for i, stage in enumerate((self.stage1, self.stage2, self.stage3), start=1):
            for each in stage:
                x = block(each, x)
            taps[f'stage{i}'] = x
        taps['pooled'] = layers.spatial_mean(x)
        return Outputs(self.classifier(taps['pooled']), taps)


class PreactivatedBlock(nnx.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))), and the activated input, which a projection reads."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, norm: type, dtype: Any, rngs: nnx.Rngs):
        self.norm1 = norm(inputs, rngs=rngs)
        self.conv1 = layers.conv(inputs, outputs, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.norm2 = norm(outputs, rngs=rngs)
        self.conv2 = layers.conv(outputs, outputs, 3, dtype=dtype, rngs=rngs)
        self.projected = inputs != outputs
        if self.projected:
            self.shortcut = layers.conv(inputs, outputs, 1, stride=stride, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        active = jax.nn.relu(self.norm1(x, train=train))
        residual = self.shortcut(active) if self.projected else x
        hidden = jax.nn.relu(self.norm2(self.conv1(active), train=train))
        return residual + self.conv2(hidden), active


class WideResNet(nnx.Module):
    """Pre-activated blocks at k times the width, without dropout (arXiv 1605.07146, table 1)."""

    def __init__(
        self,
        channels: int,
        blocks: int,
        factor: int,
        classes: int,
        *,
        norm: str,
        dtype: Any,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        normalise = norm_layer(norm)
        widths = (16, 16 * factor, 32 * factor, 64 * factor)
        self.dtype, self.remat = dtype, remat
        self.stem = layers.conv(channels, widths[0], 3, dtype=dtype, rngs=rngs)
        block = functools.partial(PreactivatedBlock, norm=normalise, dtype=dtype, rngs=rngs)
        self.stage1, self.stage2, self.stage3 = _stages(block, blocks, widths)
        self.norm = normalise(widths[-1], rngs=rngs)
        self.classifier = layers.linear(widths[-1], classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array) -> Outputs:
        del key
        x = self.stem(x.astype(self.dtype))
        taps, before = {}, 'stem'
        block = layers.block(PreactivatedBlock.__call__, remat=self.remat, train=train)
        for i, stage in enumerate((self.stage1, self.stage2, self.stage3), start=1):
            for j, each in enumerate(stage):
                x, active = block(each, x)
                if j == 0:
                    taps[before] = active
            before = f'stage{i}'
        taps[before] = jax.nn.relu(self.norm(x, train=train))
        taps['pooled'] = layers.spatial_mean(taps[before])
        return Outputs(self.classifier(taps['pooled']), taps)


def _stages(block: Callable[..., Any], blocks: int, widths: tuple[int, ...]) -> list[Any]:
    """Three stages of `blocks`; the first block of a stage changes the width and, from the second stage, halves."""
    return [
        nnx.List([block(before if i == 0 else width, width, stride if i == 0 else 1) for i in range(blocks)])
        for before, width, stride in zip(widths[:-1], widths[1:], (1, 2, 2), strict=True)
    ]


def resnet(
    depth: int,
    *,
    classes: int,
    image_shape: tuple[int, int, int],
    wide: bool = False,
    norm: str = 'batch',
    dtype: Any = jnp.float32,
    remat: bool = False,
) -> Model:
    """ResNet of depth 6n + 2 with stage widths 16, 32, 64; `wide` is `x4`: stem 32, then 64, 128, 256.

    Images are `[batch, H, W, C]`; norm is 'batch' or 'group'; dtype is that of the activations (parameters,
    statistics, `pooled` and logits stay float32); with remat, blocks are computed again for the backward pass.
    taps: `stem`, `stage1`, `stage2`, `stage3` (after the ReLU, `[batch, h, w, channels]`) and `pooled`
    `[batch, channels]`. Raises UserError for another depth or norm. Source: arXiv 1512.03385; widths of x4:
    RepDistiller (arXiv 1910.10699).
    """
    blocks = _blocks('resnet', depth, 2)
    widths = (32, 64, 128, 256) if wide else (16, 16, 32, 64)

    def build(rngs: nnx.Rngs) -> ResNet:
        return ResNet(image_shape[-1], blocks, widths, classes, norm=norm, dtype=dtype, remat=remat, rngs=rngs)

    norm_layer(norm)
    spec = f'resnet{depth}{"x4" if wide else ""}'
    name = layers.specification(spec, classes=classes, image_shape=image_shape, norm=norm, dtype=dtype)

    under = functools.partial(
        resnet, depth, classes=classes, image_shape=image_shape, wide=wide, norm=norm, dtype=dtype, remat=remat
    )
    return from_nnx(build, name=name, rules=RULES, under=under)


def wide_resnet(
    depth: int,
    factor: int,
    *,
    classes: int,
    image_shape: tuple[int, int, int],
    norm: str = 'batch',
    dtype: Any = jnp.float32,
    remat: bool = False,
) -> Model:
    """WRN-depth-factor, depth 6n + 4, stage widths 16k, 32k, 64k behind a stem of 16.

    Images, norm, dtype and remat as in `resnet`.

    taps: as `resnet`; `stem` and `stageN` are what the next stage reads: after its first norm and ReLU.
    Raises UserError for another depth, a factor below 1 or another norm. Source: arXiv 1605.07146.
    """
    blocks = _blocks('wrn', depth, 4)
    if factor < 1:
        raise UserError(f'wrn-{depth}-{factor}: the widening factor is at least 1')

    def build(rngs: nnx.Rngs) -> WideResNet:
        return WideResNet(image_shape[-1], blocks, factor, classes, norm=norm, dtype=dtype, remat=remat, rngs=rngs)

    norm_layer(norm)
    spec = f'wrn-{depth}-{factor}'
    name = layers.specification(spec, classes=classes, image_shape=image_shape, norm=norm, dtype=dtype)

    under = functools.partial(
        wide_resnet, depth, factor, classes=classes, image_shape=image_shape, norm=norm, dtype=dtype, remat=remat
    )
    return from_nnx(build, name=name, rules=RULES, under=under)


def _blocks(family: str, depth: int, extra: int) -> int:
    """Residual blocks per stage."""
    if depth <= extra or (depth - extra) % 6:
        near = 6 * max((depth - extra) // 6, 1) + extra
        raise UserError(f'{family} of depth {depth}: the depth is 6n + {extra}, e.g. {near} or {near + 6}')
    return (depth - extra) // 6
