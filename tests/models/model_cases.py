"""Models with made-up numbers: shapes without compiling, variables without initialising."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.models import Model, named
from kdjax.models.model import Outputs, Variables

KEY = jax.random.key(0)
SIZES = ((8, 8, 1), (28, 28, 1), (32, 32, 3))


@functools.cache
def small(spec: str, norm: str = 'batch', image_shape: tuple[int, int, int] = (8, 8, 1)) -> Model:
    """Three classes; the same object for the same arguments, so that nothing is split twice."""
    return named(spec, classes=3, image_shape=image_shape, norm=norm)


def shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def variables_shape(model: Model, example: Any) -> Variables:
    return jax.eval_shape(model.init, KEY, example)


def outputs_shape(model: Model, example: Any, *, train: bool = False) -> Outputs:
    """The outputs of a model, as shapes."""

    def predict(variables, inputs):
        return model.apply(variables, inputs, key=KEY, train=train)[0]

    return jax.eval_shape(predict, variables_shape(model, example), example)


def made_up(model: Model, example: Any, seed: int = 0) -> Variables:
    """Arbitrary variables: everything but weights lies around 1, as no initialisation leaves it."""
    rng = np.random.default_rng(seed)

    def leaf(like):
        if len(like.shape) < 2:
            return jnp.asarray(rng.uniform(0.5, 1.5, like.shape), like.dtype)
        width = np.prod(like.shape[:-1])
        return jnp.asarray(rng.standard_normal(like.shape) / width**0.5, like.dtype)

    return jax.tree.map(leaf, variables_shape(model, example))


def images(batch: int, *image_shape: int, seed: int = 1) -> jax.Array:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal((batch, *image_shape)), jnp.float32)


def differs(a: Any, b: Any) -> list[str]:
    """The paths of the leaves that are not bit for bit the same."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True)
    return [jax.tree_util.keystr(path) for (path, x), y in pairs if not np.array_equal(x, y)]
