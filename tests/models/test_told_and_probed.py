"""Networks around diffusion networks: adapters that are told a scale, heads on a frozen network, one time for two."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UserError
from kdjax.models.dit import dit
from kdjax.models.guidance_adapter import ADAPTERS, FORMS, adapted_dit
from kdjax.models.heads_on import heads_on
from kdjax.models.point_denoiser import point_denoiser
from kdjax.models.two_times import one_or_two_times
from kdjax.surgery.freezing import divided, train_only, whole

KEY = jax.random.key(0)
SIZES = {'classes': 3, 'image_shape': (4, 4, 1), 'patch': 2, 'heads': 2}
X = jax.random.normal(KEY, (3, 4, 4, 1))
T, LABEL, SCALE = jnp.array([0.1, 0.5, 0.9]), jnp.array([0, 2, 3]), jnp.array([1.0, 3.0, 6.0])


def random_like(tree, key=KEY):
    """Every weight drawn, so that nothing is 0 that starts at 0."""
    leaves, structure = jax.tree.flatten(tree)
    drawn = [0.3 * jax.random.normal(jax.random.fold_in(key, i), leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, drawn)


def said(model, variables, inputs):
    return jax.jit(functools.partial(model.apply, key=KEY, train=True))(variables, inputs)[0]


@pytest.mark.slow
@pytest.mark.parametrize('form', FORMS)
def test_adapters_begin_as_the_network_and_then_tell_scales_apart(form):
    plain, model = dit(8, 1, **SIZES), adapted_dit(8, 1, form=form, hidden=4, largest=6.0, **SIZES)
    base = random_like(jax.eval_shape(plain.init, KEY, None))
    fresh = divided(jax.jit(lambda key: model.init(key, None))(KEY), ADAPTERS)
    assert jax.tree.structure(fresh['held']) == jax.tree.structure(base['params'])
    variables = {**fresh, 'held': base['params']}
    frozen = train_only(model, ADAPTERS)
    begun = said(frozen, variables, (X, T, (LABEL, SCALE))).prediction
    np.testing.assert_allclose(begun, said(plain, base, (X, T, LABEL)).prediction, rtol=1e-5, atol=1e-5)
    moved = {**variables, 'params': random_like(fresh['params'])}
    told, other = (said(frozen, moved, (X, T, (LABEL, s))).prediction for s in (SCALE, jnp.ones(3)))
    np.testing.assert_allclose(told[0], other[0], rtol=1e-5, atol=1e-5)
    assert np.all(np.abs(told - other).max(axis=(1, 2, 3))[1:] > 1e-4)
    alone = said(model, whole(moved), (X, T, LABEL)).prediction
    np.testing.assert_allclose(alone, other, rtol=1e-5, atol=1e-5)


def test_adapters_of_unknown_forms_are_refused():
    with pytest.raises(UserError, match="form of adapters 'lora'"):
        adapted_dit(8, 1, form='lora', **SIZES)
    with pytest.raises(UserError, match='adapters of hidden=0: their width is positive'):
        adapted_dit(8, 1, hidden=0, **SIZES)


def test_a_head_reads_a_network_that_is_held_and_passes_gradients_to_the_inputs():
    plain = dit(8, 2, **SIZES)
    model = heads_on(plain, ('block1', 'block2'), hidden=(4,))
    held = random_like(jax.eval_shape(plain.init, KEY, None))
    shapes = jax.eval_shape(model.init, KEY, (X, T, LABEL))
    assert jax.tree.structure(shapes['held']) == jax.tree.structure(held)
    variables = {**random_like(shapes), 'held': held}
    logits = said(model, variables, (X, T, LABEL))
    assert logits.prediction.shape == (3, 4) and logits.taps['features'].shape == (3, 4, 16)
    taps = said(plain, held, (X, T, LABEL)).taps
    np.testing.assert_allclose(logits.taps['features'][..., 8:], taps['block2'], rtol=1e-5, atol=1e-6)
    slope = jax.jit(
        jax.grad(lambda x: jnp.sum(model.apply(variables, (x, T, LABEL), key=KEY, train=True)[0].prediction))
    )
    assert float(jnp.min(jnp.max(jnp.abs(slope(X)), axis=(1, 2, 3)))) > 0


def test_one_time_is_the_pair_of_itself():
    inner = point_denoiser(8, 1, classes=3, times=2)
    model, variables = one_or_two_times(inner), random_like(jax.eval_shape(inner.init, KEY, None))
    x = X[:, :2, 0, 0]
    pair = said(inner, variables, (x, (T, T), LABEL)).prediction
    np.testing.assert_allclose(said(model, variables, (x, T, LABEL)).prediction, pair)
    np.testing.assert_allclose(said(model, variables, (x, (T, T), LABEL)).prediction, pair)
