"""Projectors and the discriminator against NumPy; gradients through exits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import KEY, images, made_up, shape, variables_shape

from kdjax.models import heads


def apply(model, variables, x):
    return jax.jit(lambda variables, x: model.apply(variables, x, key=KEY, train=False))(variables, x)[0]


@pytest.mark.parametrize('sizes', [(2, 5), (2, 4, 4, 5)])
def test_linear_like_maps_the_last_axis_to_the_width_of_the_teacher(sizes):
    model, x = heads.linear_like(shape(*sizes), shape(9, 3)), images(*sizes)
    variables = made_up(model, x)
    layer = jax.tree.map(np.asarray, variables['params']['layer'])
    expected = np.asarray(x) @ layer['kernel'] + layer['bias']
    np.testing.assert_allclose(apply(model, variables, x).prediction, expected, rtol=1e-4, atol=1e-5)


def test_conv1x1_like_averages_patches_that_are_not_square():
    model, x = heads.conv1x1_like(shape(2, 6, 4, 5), shape(2, 2, 4, 3)), images(2, 6, 4, 5)
    variables = made_up(model, x)
    layer = jax.tree.map(np.asarray, variables['params']['layer'])
    pooled = np.stack([np.asarray(x)[:, i : i + 3].mean(1) for i in (0, 3)], 1)
    expected = pooled @ layer['kernel'][0, 0] + layer['bias']
    np.testing.assert_allclose(apply(model, variables, x).prediction, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('side', 'kernel'), [(7, 4), (4, 1)])
def test_the_kernel_of_regressor_like_takes_off_what_the_student_has_more(side, kernel):
    student = shape(2, side, side, 5)
    model = heads.regressor_like(student, shape(2, 4, 4, 3))
    assert variables_shape(model, student)['params']['layer']['kernel'].shape == (kernel, kernel, 5, 3)


@pytest.mark.parametrize('stage', [(2, 4, 4, 6), (2, 16, 8), (2, 17, 8)])
def test_gradients_reach_the_features_that_an_exit_reads(stage):
    model, x = heads.exit_branch(shape(*stage), shape(2, 3), remaining=1), images(*stage)
    variables = made_up(model, x)

    def loss(params, x):
        said, _ = model.apply({**variables, 'params': params}, x, key=KEY, train=True)
        return -jnp.sum(jax.nn.log_softmax(said.prediction)[:, 0])

    weights, features = jax.jit(jax.grad(loss, argnums=(0, 1)))(variables['params'], x)
    assert np.isfinite(features).all()
    assert (np.abs(features).max(-1) > 0).mean() > 0.9
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(weights))


@pytest.mark.parametrize('last_relu', [True, False])
def test_the_discriminator_is_a_perceptron_that_judges_the_student_first(last_relu):
    student, teacher = images(4, 10, seed=1), images(4, 10, seed=2)
    model = heads.discriminator(shape(4, 10), shape(4, 10), last_relu=last_relu)
    variables = made_up(model, (student, teacher))
    layers = jax.tree.map(np.asarray, variables['params']['layers'])

    def judged(x):
        for i in ('0', '1', '2'):
            x = x @ layers[i]['kernel'] + layers[i]['bias']
            x = np.maximum(x, 0) if i < '2' or last_relu else x
        return x

    said = apply(model, variables, (student, teacher))
    halves = np.split(np.asarray(said.prediction), 2)
    for name, half, logits in zip(('of_student', 'of_teacher'), halves, (student, teacher), strict=True):
        np.testing.assert_allclose(said.taps[name], judged(np.asarray(logits)), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(said.taps[name], half)
