"""Counts against counts by hand."""

import jax
import jax.numpy as jnp
import pytest

from kdjax.models import named
from kdjax.models.count import forward_flops, parameter_table, parameters
from kdjax.models.heads import conv1x1


def test_an_mlp_counted_by_hand():
    model = named('mlp-256-128', classes=10, image_shape=(8, 8, 1), norm='none')
    images = jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    products = 64 * 256 + 256 * 128 + 128 * 10
    assert parameters(shapes) == products + 256 + 128 + 10
    flops = forward_flops(model, images)
    assert flops == pytest.approx(2 * products, rel=0.01)
    assert forward_flops(model, images, shapes) == flops


def test_a_convolution_counted_by_hand():
    maps = jax.ShapeDtypeStruct((3, 8, 8, 16), jnp.float32)
    assert forward_flops(conv1x1(maps, channels=32), maps) == pytest.approx(2 * 64 * 16 * 32, rel=0.04)


def test_a_residual_network_counted_by_hand():
    model = named('resnet8x4', classes=100, image_shape=(32, 32, 3))
    widths, sides = (32, 64, 128, 256), (32, 32, 16, 8)
    products = sides[0] ** 2 * 9 * 3 * widths[0] + 256 * 100
    for before, width, side in zip(widths[:-1], widths[1:], sides[1:], strict=True):
        products += side**2 * width * (9 * before + 9 * width + before)
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    assert forward_flops(model, images) == pytest.approx(2 * products, rel=0.08)


def test_the_table_lists_every_parameter_by_path():
    model = named('mlp-4', classes=3, image_shape=(2, 2, 1))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32))
    table = parameter_table(shapes)
    assert ('hidden/0/kernel', (4, 4), 16) in table
    assert [path for path, _, _ in table] == sorted(path for path, _, _ in table)
    assert sum(size for _, _, size in table) == parameters(shapes)
