"""A network that scales frequencies of characteristic functions, so as to look where two laws differ."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.models import layers
from kdjax.models.model import Model, Outputs
from kdjax.models.seam import from_nnx


class _Sampler(nnx.Module):
    """Two layers of (linear, leaky ReLU), a linear layer and tanh: scales of frequencies."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.layers = nnx.List([layers.linear(width, width, rngs=rngs) for _ in range(3)])

    def __call__(self, inputs: Any, *, train: bool, key: jax.Array) -> Outputs:
        del train, key
        frequencies, x = inputs
        for layer in self.layers[:-1]:
            x = jax.nn.leaky_relu(layer(x), 0.2)
        return Outputs(frequencies * (1 + jnp.tanh(self.layers[-1](x))))


def frequency_sampler(frequencies: Any, noise: Any) -> Model:
    """A learned scale mixture of normals: `(frequencies, noise)`, `[number, width]` both -> `[number, width]`.

    Each frequency is multiplied by 1 + tanh(network(noise)), in (0, 2): it starts near the normal law and covers
    narrower and wider ones. The build of a `Part` that reads `normal_frequencies`, to be read through
    `matching.ascending`. Ours: the paper's scale mixture, where the released code puts out tanh(network(noise))
    itself, 4 vectors 16 times each, behind batch norms, and cancels their gradient.
    Source: NCFM, arXiv 2502.20653, section 3.3, and SampleNet.py; RCF-GAN, arXiv 2006.08413.
    """
    del noise
    width = frequencies.shape[-1]
    return from_nnx(lambda rngs: _Sampler(width, rngs=rngs), name=f'frequency_sampler(width={width})')
