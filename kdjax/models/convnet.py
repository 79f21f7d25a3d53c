"""Plain convolutional networks, as data-set distillation trains and compares: (convolution, norm, ReLU, mean pool)."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import UserError
from kdjax.models import layers
from kdjax.models.model import Model, Outputs, Rules
from kdjax.models.norms import norm_layer
from kdjax.models.seam import from_nnx

RULES: Rules = ((r'convolutions/\d+/kernel', (None, None, None, 'tensor')),)
NORMS = ('instance', 'batch', 'group', 'none')


class ConvNet(nnx.Module):
    """Blocks of one width that halve the map, then a linear layer on what is left of it, flattened."""

    def __init__(
        self, image_shape: tuple[int, int, int], width: int, depth: int, classes: int, *, norm: str, dtype: Any,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        normalise = norm_layer(norm, allowed=NORMS)
        height, breadth, channels = image_shape
        self.dtype = dtype
        self.convolutions = nnx.List([
            layers.conv(channels if i == 0 else width, width, 3, bias=True, dtype=dtype, rngs=rngs)
            for i in range(depth)
        ])  # fmt: skip
        self.norms = nnx.List([normalise(width, rngs=rngs) for _ in range(depth)])
        self.classifier = layers.linear((height >> depth) * (breadth >> depth) * width, classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array) -> Outputs:
        del key
        x, taps = x.astype(self.dtype), {}
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True), start=1):
            taps[f'convolved{i}'] = convolution(x)
            taps[f'block{i}'] = jax.nn.relu(norm(taps[f'convolved{i}'], train=train))
            x = _halved(taps[f'block{i}'])
        taps['pooled'] = x.reshape(x.shape[0], -1).astype(jnp.float32)
        return Outputs(self.classifier(taps['pooled']), taps)


def _halved(x: jax.Array) -> jax.Array:
    """Means over 2 x 2 pixels; a last odd row or column is left out."""
    batch, height, width, channels = x.shape
    whole = x[:, : height // 2 * 2, : width // 2 * 2]
    return jnp.mean(whole.reshape(batch, height // 2, 2, width // 2, 2, channels), (2, 4))


def suiting_depth(image_shape: tuple[int, ...]) -> int:
    """Blocks of a ConvNet for images `(H, W, C)`: 3, or fewer where the last norm would see less than 4 x 4 places.

    A norm of each image over 2 x 2 places, whose mean is then taken, leaves little that differs between images.
    """
    return max(1, min(3, min(image_shape[:2]).bit_length() - 2))


def convnet(
    width: int,
    depth: int,
    *,
    classes: int,
    image_shape: tuple[int, int, int],
    norm: str = 'instance',
    dtype: Any = jnp.float32,
) -> Model:
    """ConvNet of `depth` blocks; ConvNet-3 of width 128 is what the literature of data-set distillation compares.

    Images are `[batch, H, W, C]`, at least 2^depth pixels high and wide. norm: 'instance', 'batch', 'group' or 'none'.
    taps: `convolved1`, ... (no norm yet) and `block1`, ... (after the ReLU, not yet pooled), `[batch, h, w, width]`;
    `pooled` `[batch, features]` in float32, what the classifier reads.
    Raises UserError on a width or depth below 1, on images that are too small and on another norm.
    Source: Gidaris and Komodakis, arXiv 1804.09458; DC, arXiv 2006.05929, section 4.
    """
    if width < 1 or depth < 1 or min(image_shape[:2]) < 2**depth:
        raise UserError(
            f'convnet-{width}-{depth} on images {tuple(image_shape)}: width and depth are at least 1, and every block '
            f'halves the map, so that images need {2 ** max(depth, 1)} pixels a side'
        )
    norm_layer(norm, allowed=NORMS)

    def build(rngs: nnx.Rngs) -> ConvNet:
        return ConvNet(image_shape, width, depth, classes, norm=norm, dtype=dtype, rngs=rngs)

    name = layers.specification(
        f'convnet-{width}-{depth}', classes=classes, image_shape=image_shape, norm=norm, dtype=dtype
    )

    def under(*, dtype: Any = dtype, remat: bool = False) -> Model:
        made = convnet(width, depth, classes=classes, image_shape=image_shape, norm=norm, dtype=dtype)
        return _again(made) if remat else made

    return from_nnx(build, name=name, rules=RULES, under=under)


def _again(model: Model) -> Model:
    """The whole network is computed again for the backward pass: it has few layers."""

    def apply(variables, inputs, *, key, train):
        return jax.checkpoint(functools.partial(model.apply, key=key, train=train))(variables, inputs)

    return Model(model.init, apply, model.name, model.rules)
