"""Convolutions and linear layers, initialised as in the networks that the literature compares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from kdjax.models.convolution import conv_general_dilated

he_normal_fan_out = initializers.variance_scaling(2.0, 'fan_out', 'normal')
"""Normal with variance 2 / fan_out (arXiv 1502.01852, eq. 14)."""

uniform_fan_in = initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
"""Uniform in +-1/sqrt(fan_in), the default of `torch.nn.Linear`."""

truncated_normal = initializers.truncated_normal(0.02)
xavier_uniform = initializers.xavier_uniform()
lecun_normal = initializers.lecun_normal()
he_normal = initializers.he_normal()


def conv(
    inputs: int,
    outputs: int,
    size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A square convolution padded by size // 2 on every side whatever the stride, unlike 'SAME'."""
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        strides=(stride, stride),
        padding=size // 2,
        feature_group_count=groups,
        use_bias=bias,
        dtype=dtype,
        kernel_init=he_normal_fan_out,
        conv_general_dilated=conv_general_dilated,
        rngs=rngs,
    )


def linear(
    inputs: int,
    outputs: int,
    *,
    bias: bool = True,
    init: Any = uniform_fan_in,
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.Linear:
    """A linear layer on the last axis; biases start at 0."""
    return nnx.Linear(inputs, outputs, use_bias=bias, dtype=dtype, kernel_init=init, rngs=rngs)


def block(call: Callable[..., Any], *, remat: bool, **mode: Any) -> Callable[..., Any]:
    """`call(*modules, x, **mode)`, a block of a network, as a function of modules and x.

    With `remat` the backward pass keeps x alone and computes the block again; statistics are updated once.
    """

    def run(*given: Any) -> Any:
        return call(*given, **mode)

    return nnx.remat(run) if remat else run


def spatial_mean(x: jax.Array) -> jax.Array:
    """The mean over all between batch and channels, `[batch, ..., C]` -> `[batch, C]`, in float32."""
    return jnp.mean(x.astype(jnp.float32), tuple(range(1, x.ndim - 1)))


def specification(
    spec: str,
    *,
    classes: int,
    image_shape: tuple[int, ...],
    norm: str | None = None,
    dtype: Any = jnp.float32,
) -> str:
    """All that a model is built from: `resnet8(classes=10, image_shape=(8, 8, 1), norm='batch')`."""
    options = [f'classes={classes}', f'image_shape={tuple(image_shape)}']
    if norm is not None:
        options.append(f"norm='{norm}'")
    if jnp.dtype(dtype) != jnp.float32:
        options.append(f"dtype='{jnp.dtype(dtype).name}'")
    return f'{spec}({", ".join(options)})'
