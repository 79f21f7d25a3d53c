"""Learned parts of objectives: projectors, regressors, embeddings, exit branches, a discriminator.

Each is a function of the shapes it must fit, in the order in which a `Part` gives them, with its sizes by
keyword: `Part('exit1', partial(exit_branch, remaining=2), reads=('student.stage1',), like=('student',))`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import einops
import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import UserError
from kdjax.models import layers
from kdjax.models.convolution import conv_general_dilated
from kdjax.models.model import Model, Outputs
from kdjax.models.norms import norm_layer
from kdjax.models.seam import from_nnx
from kdjax.models.vit import Block, LayerNorm

Shape = jax.ShapeDtypeStruct | jax.Array
"""Only the shape is read."""


class _Mapped(nnx.Module):
    """One layer between two pure functions."""

    def __init__(
        self,
        layer: nnx.Module,
        *,
        before: Callable[[jax.Array], jax.Array] = lambda x: x,
        after: Callable[[jax.Array], jax.Array] = lambda x: x,
    ):
        self.layer, self.before, self.after = layer, before, after

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array) -> Outputs:
        del train, key
        return Outputs(self.after(self.layer(self.before(x))))


def linear(shape: Shape, *, features: int, bias: bool = True) -> Model:
    """A linear map of the last axis, `[..., C]` -> `[..., features]`."""
    sizes = shape.shape[-1], features
    return from_nnx(
        lambda rngs: _Mapped(layers.linear(*sizes, bias=bias, rngs=rngs)),
        name=f'linear(inputs={sizes[0]}, features={features}, bias={bias})',
    )


def linear_like(student: Shape, teacher: Shape) -> Model:
    """A linear map of the last axis of `student` to the width of `teacher`."""
    return linear(student, features=teacher.shape[-1])


def conv1x1(shape: Shape, *, channels: int) -> Model:
    """A 1x1 convolution of a feature map, `[batch, h, w, C]` -> `[batch, h, w, channels]`."""
    _feature_map(shape)
    return from_nnx(
        lambda rngs: _Mapped(layers.conv(shape.shape[-1], channels, 1, bias=True, rngs=rngs)),
        name=f'conv1x1(inputs={shape.shape[-1]}, channels={channels})',
    )


def conv1x1_like(student: Shape, teacher: Shape) -> Model:
    """A 1x1 convolution to the channels of the teacher's map, after average pooling of a larger student map.

    Raises UserError where the student's map is smaller than the teacher's, or no multiple of it.
    """
    height, width = _feature_map(student)
    target = _feature_map(teacher)
    if height % target[0] or width % target[1]:
        raise UserError(
            f'a student map of {height}x{width} does not pool to {target[0]}x{target[1]}: read another tap'
        )

    def pool(x: jax.Array) -> jax.Array:
        return einops.reduce(x, 'b (h p) (w q) c -> b h w c', 'mean', h=target[0], w=target[1])

    inputs, outputs = student.shape[-1], teacher.shape[-1]
    return from_nnx(
        lambda rngs: _Mapped(layers.conv(inputs, outputs, 1, bias=True, rngs=rngs), before=pool),
        name=f'conv1x1_like(inputs={inputs}, channels={outputs}, pooled_to={target})',
    )


def regressor_like(student: Shape, teacher: Shape) -> Model:
    """FitNets' regressor: an unpadded convolution with a kernel of 1 + student size - teacher size.

    Raises UserError where the student's map is smaller. Source: arXiv 1412.6550, sec. 2.2.
    """
    kernel = tuple(1 + s - t for s, t in zip(_feature_map(student), _feature_map(teacher), strict=True))
    if min(kernel) < 1:
        raise UserError(
            f'the student map {student.shape} is smaller than the teacher map {teacher.shape}: '
            'read an earlier stage'
        )
    inputs, outputs = student.shape[-1], teacher.shape[-1]

    def build(rngs: nnx.Rngs) -> _Mapped:
        convolve = nnx.Conv(
            inputs, outputs, kernel, padding='VALID', rngs=rngs,
            kernel_init=layers.he_normal_fan_out, conv_general_dilated=conv_general_dilated,
        )  # fmt: skip
        return _Mapped(convolve)

    return from_nnx(build, name=f'regressor_like(inputs={inputs}, channels={outputs}, kernel={kernel})')


class _Perceptron(nnx.Module):
    """Linear layers with a norm and a ReLU between any two."""

    def __init__(self, sizes: Sequence[int], norm: type, *, rngs: nnx.Rngs):
        self.layers = nnx.List(
            [layers.linear(sizes[i], sizes[i + 1], rngs=rngs) for i in range(len(sizes) - 1)]
        )
        self.norms = nnx.List([norm(width, rngs=rngs) for width in sizes[1:-1]])

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array) -> Outputs:
        del key
        for layer, norm in zip(self.layers[:-1], self.norms, strict=True):
            x = jax.nn.relu(norm(layer(x), train=train))
        return Outputs(self.layers[-1](x))


def mlp_projector(shape: Shape, *, features: int, hidden: Sequence[int] = (), norm: str = 'none') -> Model:
    """Linear layers on the last axis, `[..., C]` -> `[..., features]`, with (norm, ReLU) between them.

    hidden: widths between; one of max(C, features) unless given. norm: 'batch', 'group' or 'none'.
    """
    inputs = shape.shape[-1]
    sizes = (inputs, *(hidden or (max(inputs, features),)), features)
    kind = norm_layer(norm, allowed=('batch', 'group', 'none'))
    return from_nnx(
        lambda rngs: _Perceptron(sizes, kind, rngs=rngs), name=f"mlp_projector(sizes={sizes}, norm='{norm}')"
    )


def embedding(shape: Shape, *, features: int = 128) -> Model:
    """CRD's: flatten, linear, L2-normalise; `[batch, ...]` -> unit vectors `[batch, features]`.

    Where the norm is below 1e-6 the vector shrinks instead, so that gradients stay finite.
    Source: arXiv 1910.10699, sec. 4 (128 features), and RepDistiller.
    """
    inputs = math.prod(shape.shape[1:])

    def flatten(x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0], -1)

    def unit(x: jax.Array) -> jax.Array:
        return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))

    return from_nnx(
        lambda rngs: _Mapped(layers.linear(inputs, features, rngs=rngs), before=flatten, after=unit),
        name=f'embedding(inputs={inputs}, features={features})',
    )


class _Separable(nnx.Module):
    """(depthwise 3x3, 1x1, norm, ReLU) twice; the first depthwise convolution halves the map."""

    def __init__(self, inputs: int, outputs: int, norm: type, *, rngs: nnx.Rngs):
        self.down = layers.conv(inputs, inputs, 3, stride=2, groups=inputs, rngs=rngs)
        self.mix1 = layers.conv(inputs, inputs, 1, rngs=rngs)
        self.norm1 = norm(inputs, rngs=rngs)
        self.same = layers.conv(inputs, inputs, 3, groups=inputs, rngs=rngs)
        self.mix2 = layers.conv(inputs, outputs, 1, rngs=rngs)
        self.norm2 = norm(outputs, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = jax.nn.relu(self.norm1(self.mix1(self.down(x)), train=train))
        return jax.nn.relu(self.norm2(self.mix2(self.same(x)), train=train))


class _MapExit(nnx.Module):
    def __init__(self, inputs: int, blocks: int, features: int, classes: int, norm: type, *, rngs: nnx.Rngs):
        widths = [inputs * 2**i for i in range(blocks)] + [features]
        self.blocks = nnx.List(
            [_Separable(widths[i], widths[i + 1], norm, rngs=rngs) for i in range(blocks)]
            or [Pointwise(inputs, features, rngs=rngs)]
        )
        self.classifier = layers.linear(features, classes, init=layers.truncated_normal, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array) -> Outputs:
        del key
        for block in self.blocks:
            x = block(x, train=train)
        pooled = layers.spatial_mean(x)
        return Outputs(self.classifier(pooled), {'pooled': pooled})


class Pointwise(nnx.Module):
    """A 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.conv = layers.conv(inputs, outputs, 1, bias=True, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        del train
        return self.conv(x)


class _PatchMerging(nnx.Module):
    """2x2 neighbours concatenated, LayerNorm, a linear map back to the width, GELU if `active`."""

    def __init__(self, width: int, *, active: bool, rngs: nnx.Rngs):
        self.norm = LayerNorm(4 * width)
        self.reduce = layers.linear(4 * width, width, bias=False, init=layers.truncated_normal, rngs=rngs)
        self.active = active

    def __call__(self, x: jax.Array) -> jax.Array:
        side = math.isqrt(x.shape[1])
        x = einops.rearrange(x, 'b (h p w q) c -> b (h w) (q p c)', h=side // 2, w=side // 2, p=2, q=2)
        x = self.reduce(self.norm(x))
        return jax.nn.gelu(x, approximate=False) if self.active else x


class _TokenExit(nnx.Module):
    def __init__(
        self,
        width: int,
        merges: int,
        blocks: int,
        heads: int,
        classes: int,
        class_token: bool,
        *,
        rngs: nnx.Rngs,
    ):
        self.class_token = class_token
        self.merging = nnx.List(
            [_PatchMerging(width, active=i == 0 or i < merges - 1, rngs=rngs) for i in range(merges)]
        )
        init = layers.truncated_normal
        self.blocks = nnx.List(
            [Block(width, heads, qkv_bias=False, init=init, rngs=rngs) for _ in range(blocks)]
        )
        self.classifier = layers.linear(width, classes, init=init, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array) -> Outputs:
        del train, key
        token, x = jnp.split(x, [int(self.class_token)], axis=1)
        for merge in self.merging:
            x = merge(x)
        x = jnp.concatenate([token, x], axis=1)
        for block in self.blocks:
            x = block(x)
        pooled = (x[:, 0] if self.class_token else jnp.mean(x, axis=1)).astype(jnp.float32)
        return Outputs(self.classifier(pooled), {'pooled': pooled})


def exit_branch(
    stage: Shape,
    logits: Shape,
    *pooled: Shape,
    remaining: int,
    features: int | None = None,
    norm: str = 'batch',
    heads: int = 4,
) -> Model:
    """OFA-KD's exit from a stage to logits `[batch, classes]`; its tap `pooled` is what its classifier reads.

    stage: a feature map `[batch, h, w, C]` or tokens `[batch, T, C]`; logits: what the exit must look like.
    remaining: how many stages of the backbone follow this one.
    features: the width before the classifier of a map; unless given, the largest last axis among the stage
        and `pooled` (the released code takes the pooled features of student and teacher).

    A map passes `remaining` stride-2 separable blocks, each doubling the channels but the last, which ends in
    `features` (a 1x1 convolution if none remains), then the global average and a linear layer. No block is
    added to a map of one pixel, so that small images have fewer. Tokens are merged 2x2 while the grid stays
    at 7x7 or above, pass max(remaining, 1) transformer blocks, and the class token (there is one if all but
    the first form a square) or else their mean is classified.

    Raises UserError for another rank, or tokens that form no square. Source: arXiv 2310.19444, and
    Hao840/OFAKD, distillers/ofa.py and utils.py; there tokens are projected to the width of the last stage,
    which here is their own.
    """
    inputs, classes = stage.shape[-1], logits.shape[-1]
    if len(stage.shape) == 4:
        blocks = min(remaining, math.ceil(math.log2(min(stage.shape[1:3]))))
        features = features or max(shape.shape[-1] for shape in (stage, *pooled))
        kind = norm_layer(norm)
        return from_nnx(
            lambda rngs: _MapExit(inputs, blocks, features, classes, kind, rngs=rngs),
            name=f'map_exit(sizes={(inputs, features, classes)}, blocks={blocks}, norm={norm})',
        )
    if len(stage.shape) != 3:
        raise UserError(
            f'an exit reads a feature map [batch, h, w, C] or tokens [batch, T, C], not {stage.shape}'
        )
    side, class_token = _token_grid(stage.shape[1])
    merges = max(int(math.log2(side / 7)), 0)
    if side % 2**merges:
        raise UserError(
            f'a grid of {side}x{side} tokens does not merge {merges} times: choose another patch size'
        )
    if inputs % heads:
        raise UserError(f'{heads} heads do not divide a width of {inputs}: pass heads=')
    blocks = max(remaining, 1)
    return from_nnx(
        lambda rngs: _TokenExit(inputs, merges, blocks, heads, classes, class_token, rngs=rngs),
        name=f'token_exit(sizes={(inputs, classes)}, {merges=}, {blocks=}, {heads=}, {class_token=})',
    )


class _Discriminator(nnx.Module):
    def __init__(self, widths: Sequence[int], last_relu: bool, *, rngs: nnx.Rngs):
        self.layers = nnx.List(
            [layers.linear(widths[i], widths[i + 1], rngs=rngs) for i in range(len(widths) - 1)]
        )
        self.last_relu = last_relu

    def __call__(self, inputs: Any, *, train: bool, key: jax.Array) -> Outputs:
        del train, key
        said = [self._judged(logits) for logits in jax.tree.leaves(inputs)]
        names = ('of_student', 'of_teacher')
        return Outputs(jnp.concatenate(said), dict(zip(names, said, strict=False)))

    def _judged(self, x: jax.Array) -> jax.Array:
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        x = self.layers[-1](x)
        return jax.nn.relu(x) if self.last_relu else x


def discriminator(student: Shape, *teacher: Shape, last_relu: bool = True, minimum: int = 8) -> Model:
    """MEAL V2's: linear layers C -> C/8 -> C/64 -> 2 on raw logits, a ReLU after each and after the last.

    Reads the student's logits `[batch, C]`, or a tuple (student's, teacher's). The prediction has two logits
    for each row, `[rows, 2]`, the student's rows first; taps `of_student` and `of_teacher` hold them apart.
    last_relu: with it, as released, neither logit can be negative. minimum: the least hidden width; C/8
    and C/64 would be 1 and 0 for ten classes, and a narrow layer of ReLUs is easily born dead.

    Raises UserError where student and teacher differ in classes. Source: arXiv 2009.08453; szq0214/MEAL-V2,
    models/discriminator.py.
    """
    classes = student.shape[-1]
    if any(other.shape[-1] != classes for other in teacher):
        raise UserError(
            f'student has {classes} classes, teacher {teacher[0].shape[-1]}: one discriminator needs the same'
        )
    widths = (classes, max(minimum, classes // 8), max(minimum, classes // 64), 2)
    return from_nnx(
        lambda rngs: _Discriminator(widths, last_relu, rngs=rngs),
        name=f'discriminator(widths={widths}, last_relu={last_relu})',
    )


def _feature_map(shape: Shape) -> tuple[int, int]:
    """Height and width."""
    if len(shape.shape) != 4:
        raise UserError(
            f'a feature map [batch, h, w, channels] is needed, not {tuple(shape.shape)}: read a stage'
        )
    return shape.shape[1], shape.shape[2]


def _token_grid(tokens: int) -> tuple[int, bool]:
    """Side of the square that the tokens form, and whether a class token comes before it."""
    for first in (0, 1):
        side = math.isqrt(tokens - first)
        if side and side * side == tokens - first:
            return side, bool(first)
    raise UserError(f'{tokens} tokens form no square grid, with or without a class token')
