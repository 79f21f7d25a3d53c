"""Modules of three libraries behind one contract: pure functions on plain dicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from model_cases import KEY, differs, images, made_up, shape, small

from kdjax.models import Outputs, from_functions, from_linen, from_nnx

EXAMPLE = shape(4, 6)


class Noisy(linen.Module):
    """Dense, BatchNorm, dropout, Dense."""

    @linen.compact
    def __call__(self, x, *, train):
        x = linen.Dense(8)(x)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        hidden = linen.Dropout(0.5, deterministic=not train)(x)
        return Outputs(linen.Dense(3)(hidden), {'hidden': hidden})


@pytest.fixture(scope='module')
def noisy():
    model = from_linen(Noisy(), name='noisy')
    return model, made_up(model, EXAMPLE)


def apply(model, variables, x, *, train, key=KEY):
    return jax.jit(lambda v, x, key: model.apply(v, x, key=key, train=train))(variables, x, key)


def is_plain(tree):
    if type(tree) is dict:
        return all(type(key) is str and is_plain(value) for key, value in tree.items())
    return isinstance(tree, jax.Array)


def test_linen_parameters_are_trained_and_batch_statistics_are_not(noisy):
    _, variables = noisy
    assert set(variables['params']) == {'BatchNorm_0', 'Dense_0', 'Dense_1'}
    assert list(variables['stats']) == ['batch_stats']
    assert is_plain(variables)


def test_linen_evaluation_is_deterministic_and_writes_nothing(noisy):
    model, variables = noisy
    x = images(4, 6)
    (one, after), (two, _) = (
        apply(model, variables, x, train=False, key=jax.random.key(seed)) for seed in (1, 2)
    )
    assert differs(one, two) == []
    assert differs(variables, after) == []


def test_linen_dropout_is_a_function_of_the_key(noisy):
    model, variables = noisy
    said = [
        apply(model, variables, images(4, 6), train=True, key=jax.random.key(seed))[0].taps['hidden']
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(said[0], said[1])
    assert 4 <= np.sum(said[0] == 0) <= 28
    assert (said[0] != said[2]).any()


def test_linen_training_updates_batch_statistics_only(noisy):
    model, variables = noisy
    x = images(4, 6)
    _, after = apply(model, variables, x, train=True)
    assert is_plain(after)
    assert differs(variables['params'], after['params']) == []
    dense = variables['params']['Dense_0']
    batch = np.asarray(x) @ np.asarray(dense['kernel']) + np.asarray(dense['bias'])
    before, moved = (v['stats']['batch_stats']['BatchNorm_0']['mean'] for v in (variables, after))
    np.testing.assert_allclose(moved, 0.5 * np.asarray(before) + 0.5 * batch.mean(0), rtol=1e-5)


def test_linen_init_is_a_function_of_the_key():
    model = from_linen(linen.Dense(2), name='dense')
    one, same, other = (model.init(jax.random.key(seed), EXAMPLE) for seed in (1, 1, 2))
    assert is_plain(one) and one['stats'] == {}
    assert differs(one, same) == []
    assert differs(one, other) == ["['params']['kernel']"]


def test_linen_modules_without_a_mode_return_bare_predictions():
    model = from_linen(linen.Dense(2), name='dense')
    variables, x = made_up(model, EXAMPLE), images(4, 6)
    params = jax.tree.map(np.asarray, variables['params'])
    expected = np.asarray(x) @ params['kernel'] + params['bias']
    for train in (True, False):
        said, after = apply(model, variables, x, train=train)
        np.testing.assert_allclose(said.prediction, expected, rtol=1e-5)
        assert said.taps == {}
        assert differs(variables, after) == []


@pytest.mark.parametrize('wrap', [lambda y: y, lambda y: Outputs(y, {'twice': 2 * y})])
def test_functions_become_a_model_without_statistics(wrap):
    model = from_functions(
        lambda key, example: {'w': jnp.full(example.shape[-1:], 2.0)},
        lambda params, x: wrap(x * params['w'][None]),
        name='scale',
    )
    variables = model.init(KEY, EXAMPLE)
    assert differs(variables, {'params': {'w': jnp.full(6, 2.0)}, 'stats': {}}) == []
    x = images(4, 6)
    for train in (True, False):
        said, after = model.apply(variables, x, key=KEY, train=train)
        assert after is variables
        np.testing.assert_array_equal(said.prediction, 2 * x)
        assert all((tap == 2 * said.prediction).all() for tap in said.taps.values())


class Bare(nnx.Module):
    """A scale, and a counter of calls that is no statistic of a batch."""

    def __init__(self):
        self.scale = nnx.List([nnx.Param(jnp.full((), 3.0))])
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x, *, train, key):
        if train:
            self.calls[...] = self.calls[...] + 1
        return x * self.scale[0][...]


def test_nnx_modules_of_bare_predictions_and_other_variables():
    model = from_nnx(lambda rngs: Bare(), name='bare')
    variables = model.init(KEY, EXAMPLE)
    assert is_plain(variables)
    said, after = model.apply(variables, jnp.ones((2, 6)), key=KEY, train=True)
    assert (said.prediction == 3).all() and said.taps == {}
    assert (variables['stats']['calls'], after['stats']['calls']) == (0, 1)
    _, same = model.apply(after, jnp.ones((2, 6)), key=KEY, train=False)
    assert same is after


def test_training_leaves_the_variables_it_was_given():
    model, x = small('mlp-8'), images(4, 8, 8, 1)
    variables = made_up(model, x)
    copy = jax.tree.map(lambda leaf: np.array(leaf), variables)
    _, after = apply(model, variables, x, train=True)
    assert differs(variables, copy) == []
    assert is_plain(after)
