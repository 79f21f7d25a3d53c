"""Counts against counts by hand."""

import jax
import pytest
from model_cases import KEY, shape, small, variables_shape

from kdjax.models.count import forward_flops, parameter_table, parameters
from kdjax.models.heads import conv1x1


def test_an_mlp_counted_by_hand():
    model, example = small('mlp-256-128', 'none'), shape(4, 8, 8, 1)
    shapes = variables_shape(model, example)
    products = 64 * 256 + 256 * 128 + 128 * 3
    assert parameters(shapes) == products + 256 + 128 + 3
    flops = forward_flops(model, example)
    assert flops == pytest.approx(2 * products, rel=0.01)
    assert forward_flops(model, example, shapes) == flops


def test_a_convolution_counted_by_hand():
    maps = shape(3, 8, 8, 16)
    assert forward_flops(conv1x1(maps, channels=32), maps) == pytest.approx(2 * 64 * 16 * 32, rel=0.04)


def test_the_published_resnet_counted_by_hand():
    """Every product of the padded border is counted by hand, none by XLA."""
    model = small('resnet8x4', image_shape=(32, 32, 3))
    widths, sides = (32, 64, 128, 256), (32, 32, 16, 8)
    products = sides[0] ** 2 * 9 * 3 * widths[0] + 256 * 3
    for before, width, side in zip(widths[:-1], widths[1:], sides[1:], strict=True):
        products += side**2 * width * (9 * before + 9 * width + before)
    assert forward_flops(model, shape(2, 32, 32, 3)) == pytest.approx(2 * products, rel=0.08)


def test_the_table_lists_every_parameter_by_path():
    shapes = jax.eval_shape(small('mlp-4').init, KEY, shape(1, 8, 8, 1))
    table = parameter_table(shapes)
    assert ('hidden/0/kernel', (64, 4), 256) in table
    assert sum(size for _, _, size in table) == parameters(shapes)
