"""Several networks as one model: candidates inside one network, or independent copies side by side.

The prediction is `[batch, networks, classes]`, every tap `[batch, networks, ...]`: map losses over axis 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.models.model import Model, Outputs, Variables
from kdjax.surgery.prune import mask_prefix


def nested(model: Model, kept: Sequence[Sequence[int]]) -> Model:
    """One MLP that answers as each of its prefixes; kept[c] are the hidden widths of candidate c.

    Gradients of all candidates add up in the shared weights. Taps are zero where a candidate was cut.
    """
    grid = tuple(tuple(k) for k in kept)

    def apply(variables: Variables, inputs: Any, *, key: jax.Array, train: bool) -> tuple[Outputs, Variables]:
        def candidate(widths: jax.Array) -> Outputs:
            return model.apply(mask_prefix(variables, widths), inputs, key=key, train=train)[0]

        return jax.vmap(candidate, out_axes=1)(jnp.asarray(grid, jnp.int32)), variables

    return Model(model.init, apply, f'nested({model.name}, {grid})')


def copies(model: Model, number: int) -> Model:
    """Independent networks of one shape; every leaf of the variables has the copies as its leading axis."""

    def init(key: jax.Array, example: Any) -> Variables:
        return jax.vmap(lambda k: model.init(k, example))(jax.random.split(key, number))

    def apply(variables: Variables, inputs: Any, *, key: jax.Array, train: bool) -> tuple[Outputs, Variables]:
        def copy(own: Variables) -> tuple[Outputs, Variables]:
            return model.apply(own, inputs, key=key, train=train)

        return jax.vmap(copy, out_axes=(1, 0))(variables)

    return Model(init, apply, f'copies({model.name}, {number})')
