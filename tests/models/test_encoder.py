"""The encoder: what padding may not change, its taps, and what comes out of it."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import KEY, made_up, outputs_shape, variables_shape

from kdjax.errors import UserError
from kdjax.models.encoder import EncoderConfig, encoder

PLAIN = EncoderConfig(vocabulary=31, width=16, depth=2, heads=4, hidden=24, context=12)
FULL = dataclasses.replace(PLAIN, masked_lm=True, pooler=True)


def tokens(batch=2, length=9, seed=3):
    return jnp.asarray(np.random.default_rng(seed).integers(0, 31, (batch, length)), jnp.int32)


@functools.cache
def applied(config, **how):
    model = encoder(config, **how)
    variables = made_up(encoder(config), tokens())
    return jax.jit(lambda inputs: model.apply(variables, inputs, key=KEY, train=False)[0])


def said(config, *inputs, **how):
    return applied(config, **how)(inputs)


def close(a, b, atol=2e-5):
    np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), atol=atol, rtol=1e-5)


def test_taps_and_their_shapes():
    out = outputs_shape(encoder(FULL), jax.ShapeDtypeStruct((2, 9), jnp.int32))
    stream = dict.fromkeys(['embedded', 'hidden', 'block1', 'block2', *(f'stage{i}' for i in range(1, 5))], (2, 9, 16))
    relations = {f'{name}{i}': (2, 9, 4, 4) for name in ('queries', 'keys', 'values') for i in (1, 2)}
    rows = dict.fromkeys(['pooled', 'cls', 'pooler'], (2, 16))
    assert {name: tap.shape for name, tap in out.taps.items()} == stream | relations | rows
    assert out.prediction.shape == (2, 9, 31)
    plain = outputs_shape(encoder(PLAIN), jax.ShapeDtypeStruct((2, 9), jnp.int32))
    assert plain.prediction.shape == (2, 9, 16)
    assert 'pooler' not in plain.taps


def test_padding_changes_nothing():
    rows = jnp.concatenate([tokens(2, 6), tokens(2, 3, seed=4)], axis=1)
    mask = jnp.asarray([[True] * 6 + [False] * 3] * 2)
    padded, alone = said(FULL, rows, mask), said(FULL, rows[:, :6])
    close(padded.prediction[:, :6], alone.prediction)
    for name in ('pooled', 'cls', 'pooler'):
        close(padded.taps[name], alone.taps[name])
    close(said(FULL, rows, mask.astype(jnp.int32)).prediction, padded.prediction)


def test_a_row_of_padding_is_finite_and_pools_to_zero():
    mask = jnp.asarray([[False] * 9, [True] * 9])
    out = said(PLAIN, tokens(), mask)
    assert np.all(np.isfinite(out.prediction))
    assert np.all(out.taps['pooled'][0] == 0)
    assert np.all(out.taps['pooled'][1] != 0)


def test_every_token_sees_every_other():
    def moved(place):
        rows = tokens().at[:, place].set(30)
        return np.abs(said(PLAIN, rows).prediction - said(PLAIN, tokens().at[:, place].set(29)).prediction).max((0, 2))

    assert np.all(moved(0) > 1e-3)
    assert np.all(moved(8) > 1e-3)


def test_the_mean_counts_the_tokens_of_the_mask():
    mask = jnp.asarray([[True, True, False, False, True, False, False, False, False]] * 2)
    out = said(PLAIN, tokens(), mask)
    close(out.taps['pooled'], np.asarray(out.taps['hidden'])[:, [0, 1, 4]].mean(1))
    close(out.taps['cls'], out.taps['hidden'][:, 0])


def test_types_of_segments_are_0_unless_given():
    mask, zeros = jnp.ones((2, 9), bool), jnp.zeros((2, 9), jnp.int32)
    np.testing.assert_array_equal(said(PLAIN, tokens(), mask).prediction, said(PLAIN, tokens(), mask, zeros).prediction)
    others = said(PLAIN, tokens(), mask, zeros + 1).prediction
    assert np.abs(others - said(PLAIN, tokens(), mask).prediction).max() > 0.01


def test_bfloat16_leaves_logits_in_float32_and_remat_changes_no_number():
    exact, rough = said(FULL, tokens()), said(FULL, tokens(), dtype=jnp.bfloat16)
    assert rough.prediction.dtype == rough.taps['pooled'].dtype == jnp.float32
    assert rough.taps['block1'].dtype == jnp.bfloat16
    assert float(jnp.abs(rough.prediction - exact.prediction).max()) < 0.1 * float(jnp.abs(exact.prediction).max())

    def gradient(remat):
        model, variables = encoder(FULL, remat=remat), made_up(encoder(FULL), tokens())

        def loss(params):
            out = model.apply({'params': params, 'stats': {}}, tokens(), key=KEY, train=True)[0]
            return jnp.mean(jax.nn.logsumexp(out.prediction, axis=-1) ** 2) + jnp.mean(out.taps['pooler'] ** 2)

        return jax.jit(jax.grad(loss))(variables['params'])

    jax.tree.map(functools.partial(close, atol=1e-4), gradient(False), gradient(True))


def test_every_large_matrix_has_a_rule():
    model = encoder(PLAIN)
    leaves = jax.tree_util.tree_leaves_with_path(variables_shape(model, tokens())['params'])
    paths = [jax.tree_util.keystr(path, simple=True, separator='/') for path, leaf in leaves if leaf.ndim == 2]
    unruled = [path for path in paths if not any(re.search(f'{rule}$', path) for rule, _ in model.rules)]
    assert unruled == ['position/table', 'type/table']


def test_refused():
    with pytest.raises(UserError, match='heads=3 does not divide width=16'):
        dataclasses.replace(PLAIN, heads=3)
    with pytest.raises(UserError, match='depth is 0: it must be positive'):
        dataclasses.replace(PLAIN, depth=0)
    with pytest.raises(UserError, match='13 tokens in a row, but the encoder has 12 positions: cut the rows'):
        outputs_shape(encoder(PLAIN), jax.ShapeDtypeStruct((1, 13), jnp.int32))
