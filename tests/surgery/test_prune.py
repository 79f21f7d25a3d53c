"""Cutting an MLP: what must stay the same, and what must go."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import surgery
from kdjax.errors import UserError
from kdjax.models.named import named

KEY = jax.random.key(0)
SHAPE = (2, 3, 1)
WIDTHS = (7, 5)
MODEL = named('mlp-7-5', classes=4, image_shape=SHAPE, norm='none')
IMAGES = jax.random.normal(jax.random.key(1), (6, *SHAPE))
LABELS = jnp.array([0, 1, 2, 3, 0, 1])


@pytest.fixture(scope='module')
def variables():
    """Weights and biases that are all different from zero."""
    drawn = MODEL.init(KEY, IMAGES)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), drawn)


def said(variables, model=MODEL):
    return model.apply(variables, IMAGES, key=KEY, train=False)[0]


def loss(variables, batch):
    return jnp.mean(jnp.square(said(variables).prediction - batch[:, None]))


def test_widths_are_those_of_the_specification(variables):
    assert surgery.widths(variables) == WIDTHS


def test_a_permutation_of_units_keeps_the_function(variables):
    orders = [jnp.array([3, 1, 6, 0, 2, 5, 4]), jnp.array([4, 0, 3, 1, 2])]
    moved = surgery.permute_units(variables, orders)
    np.testing.assert_allclose(said(moved).prediction, said(variables).prediction, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        said(moved).taps['hidden1'], said(variables).taps['hidden1'][:, orders[0]], rtol=1e-5, atol=1e-6
    )


def test_the_prefix_of_full_width_is_the_network(variables):
    for same in (surgery.keep_prefix(variables, WIDTHS), surgery.mask_prefix(variables, WIDTHS)):
        assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), same, variables))


@pytest.mark.parametrize('kept', [(3, 2), (1, 5), (7, 1)])
def test_a_masked_network_is_the_sliced_network(variables, kept):
    small = named('mlp-{}-{}'.format(*kept), classes=4, image_shape=SHAPE, norm='none')
    sliced = said(surgery.keep_prefix(variables, kept), small)
    masked = said(surgery.mask_prefix(variables, kept))
    np.testing.assert_allclose(masked.prediction, sliced.prediction, rtol=1e-4, atol=1e-5)
    for layer, k in zip(('hidden1', 'hidden2'), kept, strict=True):
        np.testing.assert_allclose(masked.taps[layer][:, :k], sliced.taps[layer], rtol=1e-4, atol=1e-5)
        assert not masked.taps[layer][:, k:].any()


def test_the_width_of_a_mask_may_be_traced(variables):
    kept = jnp.array([3, 2])
    traced = jax.jit(surgery.mask_prefix)(variables, kept)
    expected = surgery.mask_prefix(variables, (3, 2))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), traced, expected))


def test_scaled_widths_are_rounded_and_never_zero():
    assert surgery.scaled((256, 256), 0.1) == (26, 26)
    assert surgery.scaled((3, 10), 0.01) == (1, 1)
    with pytest.raises(UserError, match='at scale'):
        surgery.scaled((3,), 1.5)


def test_importance_is_the_slope_of_the_loss_in_a_gate(variables):
    batches = [jnp.arange(6.0), jnp.ones(6)]
    found = surgery.importance(loss, variables, batches)
    gates, step = [jnp.ones(w) for w in WIDTHS], 1e-2

    def at(layer, unit, value, batch):
        moved = [g.at[unit].set(value) if i == layer else g for i, g in enumerate(gates)]
        return loss(surgery.gate(variables, moved), batch)

    for layer, unit in ((0, 2), (1, 3), (1, 0)):
        slopes = [(at(layer, unit, 1 + step, b) - at(layer, unit, 1 - step, b)) / (2 * step) for b in batches]
        first = [(at(layer, 1, 1 + step, b) - at(layer, 1, 1 - step, b)) / (2 * step) for b in batches]
        ratio = sum(map(abs, slopes)) / sum(map(abs, first))
        np.testing.assert_allclose(found[layer][unit] / found[layer][1], ratio, rtol=2e-2, atol=1e-3)
    np.testing.assert_allclose([jnp.linalg.norm(i) for i in found], 1.0, rtol=1e-5)


def test_a_dead_unit_has_no_importance_and_comes_last(variables):
    params = variables['params']
    first = params['hidden']['0']
    dead = {'kernel': first['kernel'].at[:, 2].set(0.0), 'bias': first['bias'].at[2].set(-1.0)}
    broken = {**variables, 'params': {**params, 'hidden': {**params['hidden'], '0': dead}}}
    found = surgery.importance(loss, broken, [jnp.arange(6.0)])
    assert found[0][2] == 0
    assert np.count_nonzero(found[0]) > 1
    ordered = surgery.by_importance(loss, broken, [jnp.arange(6.0)])
    again = surgery.importance(loss, ordered, [jnp.arange(6.0)])
    assert all(bool(jnp.all(jnp.diff(i) <= 1e-6)) for i in again)
    np.testing.assert_allclose(said(ordered).prediction, said(broken).prediction, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda v: surgery.keep_prefix(v, (8, 5)), r'\(8, 5\) cannot be cut out of \(7, 5\)'),
        (lambda v: surgery.keep_prefix(v, (7, 0)), r'\(7, 0\) cannot be cut'),
        (lambda v: surgery.keep_prefix(v, (7,)), 'give as many'),
        (lambda v: surgery.mask_prefix(v, (7,)), 'one for each of 2 layers'),
        (lambda v: surgery.permute_units(v, [jnp.arange(7)]), 'one vector a layer'),
        (lambda v: surgery.gate(v, [jnp.ones(7), jnp.ones(4)]), r'\(7, 4\), but the network has \(7, 5\)'),
    ],
)
def test_refusals(variables, call, message):
    with pytest.raises(UserError, match=message):
        call(variables)


def test_a_network_with_normalisation_is_refused():
    normed = named('mlp-7-5', classes=4, image_shape=SHAPE, norm='batch')
    with pytest.raises(UserError, match="norm='none'"):
        surgery.widths(jax.eval_shape(functools.partial(normed.init, KEY), IMAGES))
