"""Parameters and floating-point operations against counts on paper."""

import math

import jax
import pytest
from model_cases import made_up, shape, small, variables_shape

from kdjax.models import named
from kdjax.models.count import forward_flops, parameter_table, parameters


def test_parameters_leave_statistics_out():
    variables = variables_shape(small('mlp-8'), shape(1, 8, 8, 1))
    assert parameters(variables) == (64 * 8 + 8) + 2 * 8 + (8 * 3 + 3)
    assert parameters(made_up(small('mlp-8'), shape(1, 8, 8, 1))) == parameters(variables)


@pytest.mark.parametrize('spec', ['mlp-8-8', 'resnet8', 'wrn-10-1', 'vit-8-2'])
def test_the_table_adds_up_to_the_parameters(spec):
    variables = variables_shape(small(spec), shape(1, 8, 8, 1))
    table = parameter_table(variables)
    assert sum(count for _, _, count in table) == parameters(variables)
    assert all(count == math.prod(sizes) for _, sizes, count in table)
    assert len({path for path, _, _ in table}) == len(table) == len(jax.tree.leaves(variables['params']))


def test_flops_of_resnet8_are_those_of_its_convolutions():
    def convolution(side, size, inputs, outputs, stride=1):
        """Two for each weight, at each position, whose pixel is within the border."""
        reach = size // 2
        positions = range(0, side, stride)
        inside = sum(min(p + reach, side - 1) - max(p - reach, 0) + 1 for p in positions)
        return 2 * inside**2 * inputs * outputs

    stage1 = 2 * convolution(32, 3, 16, 16)
    stage2 = convolution(32, 3, 16, 32, 2) + convolution(16, 3, 32, 32) + convolution(32, 1, 16, 32, 2)
    stage3 = convolution(16, 3, 32, 64, 2) + convolution(8, 3, 64, 64) + convolution(16, 1, 32, 64, 2)
    counted = convolution(32, 3, 3, 16) + stage1 + stage2 + stage3 + 2 * 64 * 100
    model = named('resnet8', classes=100, image_shape=(32, 32, 3))
    flops = forward_flops(model, shape(1, 32, 32, 3))
    assert counted < flops < 1.05 * counted


@pytest.mark.parametrize('spec', ['mlp-32', 'vit-16-2'])
def test_flops_are_per_example_and_need_no_arrays(spec):
    one, eight = (forward_flops(small(spec), shape(batch, 8, 8, 1)) for batch in (1, 8))
    assert eight == pytest.approx(one, rel=0.02)
