"""Normalisation layers against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from kdjax.models.norms import BatchNorm, GroupNorm
from kdjax.models.seam import from_nnx
from kdjax.models.vit import LayerNorm


class Wrapped(nnx.Module):
    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x, *, train, key):
        del key
        return self.layer(x) if isinstance(self.layer, LayerNorm) else self.layer(x, train=train)


def test_batch_norm_trains_on_the_batch_and_evaluates_on_the_running_statistics():
    x = 3.0 * jax.random.normal(jax.random.key(0), (4, 2, 2, 3)) + 5.0
    model = from_nnx(lambda rngs: Wrapped(BatchNorm(3, rngs=rngs)), name='norm')
    variables = model.init(jax.random.key(0), x)
    outputs, moved = model.apply(variables, x, key=jax.random.key(0), train=True)
    rows = np.asarray(x).reshape(-1, 3)
    expected = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
    np.testing.assert_allclose(np.asarray(outputs.prediction).reshape(-1, 3), expected, atol=1e-5)

    stats = moved['stats']['layer']
    np.testing.assert_allclose(stats['mean'], 0.1 * rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats['var'], 0.9 + 0.1 * rows.var(0, ddof=1), rtol=1e-5)

    outputs, same = model.apply(moved, x, key=jax.random.key(0), train=False)
    expected = (rows - np.asarray(stats['mean'])) / np.sqrt(np.asarray(stats['var']) + 1e-5)
    np.testing.assert_allclose(np.asarray(outputs.prediction).reshape(-1, 3), expected, rtol=1e-4)
    assert same is moved


def test_batch_norm_of_one_row_is_finite():
    model = from_nnx(lambda rngs: Wrapped(BatchNorm(3, rngs=rngs)), name='norm')
    x = jnp.ones((1, 3))
    outputs, moved = model.apply(model.init(jax.random.key(0), x), x, key=jax.random.key(0), train=True)
    assert jnp.all(outputs.prediction == 0.0)
    np.testing.assert_allclose(moved['stats']['layer']['var'], 0.9, rtol=1e-6)


def test_group_norm_normalises_each_example_over_groups_of_channels():
    x = 3.0 * jax.random.normal(jax.random.key(0), (4, 2, 2, 16)) + 5.0
    model = from_nnx(lambda rngs: Wrapped(GroupNorm(16, rngs=rngs)), name='norm')
    variables = model.init(jax.random.key(0), x)
    assert variables['stats'] == {}
    outputs, _ = model.apply(variables, x, key=jax.random.key(0), train=True)
    groups = np.asarray(x).reshape(4, 2, 2, 8, 2)
    mean, var = groups.mean((1, 2, 4), keepdims=True), groups.var((1, 2, 4), keepdims=True)
    expected = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
    np.testing.assert_allclose(outputs.prediction, expected, atol=1e-5)


def test_layer_norm_normalises_the_last_axis():
    x = 3.0 * jax.random.normal(jax.random.key(0), (4, 5, 16)) + 5.0
    model = from_nnx(lambda rngs: Wrapped(LayerNorm(16)), name='norm')
    outputs, _ = model.apply(model.init(jax.random.key(0), x), x, key=jax.random.key(0), train=True)
    rows = np.asarray(x)
    expected = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(outputs.prediction, expected, atol=1e-5)
