"""Multilayer perceptrons on flattened inputs."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import UserError
from kdjax.models import layers
from kdjax.models.model import Model, Outputs, Rules
from kdjax.models.norms import norm_layer
from kdjax.models.seam import from_nnx

RULES: Rules = (
    (r'hidden/\d*[02468]/kernel', (None, 'tensor')),
    (r'hidden/\d*[02468]/bias', ('tensor',)),
    (r'hidden/\d*[13579]/kernel', ('tensor', None)),
)
"""Outputs of one layer are split, then inputs of the next: one sum over devices for two layers (arXiv 1909.08053)."""


def _layer(linear: nnx.Linear, norm: nnx.Module, x: jax.Array, *, train: bool) -> jax.Array:
    return jax.nn.relu(norm(linear(x), train=train))


class MLP(nnx.Module):
    """(linear, norm, ReLU) per hidden width, then a linear classifier in float32."""

    def __init__(
        self, inputs: int, widths: Sequence[int], classes: int, *, norm: str, dtype: Any, remat: bool, rngs: nnx.Rngs
    ):
        normalise = norm_layer(norm, allowed=('batch', 'group', 'none'))
        sizes = [inputs, *widths]
        self.dtype, self.remat = dtype, remat
        self.hidden = nnx.List(
            [
                layers.linear(a, b, init=layers.he_normal, dtype=dtype, rngs=rngs)
                for a, b in itertools.pairwise(sizes)
            ]
        )
        self.norms = nnx.List([normalise(width, rngs=rngs) for width in widths])
        self.classifier = layers.linear(sizes[-1], classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool, key: jax.Array) -> Outputs:
        del key
        x = x.reshape(x.shape[0], -1).astype(self.dtype)
        taps, layer = {}, layers.block(_layer, remat=self.remat, train=train)
        for i, (linear, norm) in enumerate(zip(self.hidden, self.norms, strict=True), start=1):
            x = taps[f'hidden{i}'] = layer(linear, norm, x)
        taps['pooled'] = x.astype(jnp.float32)
        return Outputs(self.classifier(taps['pooled']), taps)


def mlp(
    widths: Sequence[int],
    *,
    classes: int,
    image_shape: tuple[int, ...],
    norm: str = 'batch',
    dtype: Any = jnp.float32,
    remat: bool = False,
) -> Model:
    """An MLP with these hidden widths on the flattened image.

    norm: 'batch', 'group' or 'none', between each hidden linear layer and its ReLU.
    remat: hidden layers are computed again for the backward pass instead of being kept.
    taps: `hidden1`, `hidden2`, ... (after the ReLU, `[batch, width]`) and `pooled`, the last one in float32.
    """
    if not widths or min(widths) < 1:
        raise UserError(f'an MLP needs at least one hidden width, all of them positive; got {tuple(widths)}')
    inputs = math.prod(image_shape)

    def build(rngs: nnx.Rngs) -> MLP:
        return MLP(inputs, widths, classes, norm=norm, dtype=dtype, remat=remat, rngs=rngs)

    norm_layer(norm, allowed=('batch', 'group', 'none'))
    spec = '-'.join(('mlp', *map(str, widths)))
    name = layers.specification(spec, classes=classes, image_shape=image_shape, norm=norm, dtype=dtype)

    under = functools.partial(
        mlp, widths, classes=classes, image_shape=image_shape, norm=norm, dtype=dtype, remat=remat
    )
    return from_nnx(build, name=name, rules=RULES, under=under)
