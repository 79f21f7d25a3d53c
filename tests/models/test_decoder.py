"""The decoder: what it computes, by hand and by what may not change, its taps, segments and cache."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Literal
from model_cases import KEY, made_up, outputs_shape, variables_shape

from kdjax.errors import UserError
from kdjax.models import attention
from kdjax.models.decoder import DecoderConfig, DecoderInputs, decoder, decoder_cache, gpt2_config
from kdjax.models.sequences import positions_in

LLAMA = DecoderConfig(vocabulary=31, width=16, depth=2, heads=4, kv_heads=2, hidden=24)
FORMS = {
    'llama': LLAMA,
    'qwen': dataclasses.replace(
        LLAMA, qk_norm=True, head_width=8, qkv_bias=True, tied=False, attention_cap=2.0, logit_cap=3.0
    ),
    'gpt2': gpt2_config(31, 16, 2, 4, context=32),
}
every_form = pytest.mark.parametrize('config', FORMS.values(), ids=FORMS)
both_families = pytest.mark.parametrize('config', [FORMS['qwen'], FORMS['gpt2']], ids=['qwen', 'gpt2'])


def tokens(batch=2, length=9, seed=3):
    return jnp.asarray(np.random.default_rng(seed).integers(0, 31, (batch, length)), jnp.int32)


@functools.cache
def variables_of(config):
    return made_up(decoder(config), tokens())


@functools.cache
def applied(config, **how):
    model = decoder(config, **how)
    return jax.jit(lambda variables, inputs: model.apply(variables, inputs, key=KEY, train=False)[0])


def said(config, inputs, **how):
    return applied(config, **how)(variables_of(config), inputs)


def close(a, b, atol=2e-5):
    np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), atol=atol, rtol=1e-5)


@every_form
def test_taps_and_their_shapes(config):
    out = outputs_shape(decoder(config), jax.ShapeDtypeStruct((2, 9), jnp.int32))
    stream = (2, 9, 16)
    relations = {f'queries{i}': (2, 9, 4, config.head_width) for i in (1, 2)}
    relations |= {f'{n}{i}': (2, 9, config.kv_heads, config.head_width) for n in ('keys', 'values') for i in (1, 2)}
    names = ['embedded', 'hidden', *(f'block{i}' for i in (1, 2)), *(f'stage{i}' for i in (1, 2, 3, 4))]
    assert {n: t.shape for n, t in out.taps.items()} == dict.fromkeys(names, stream) | relations | {'head': (31, 16)}
    assert out.prediction.shape == (2, 9, 31)


@both_families
def test_no_token_sees_a_later_one(config):
    rows = tokens()
    other = rows.at[:, 5:].set((rows[:, 5:] + 1) % 31)
    a, b = said(config, rows).prediction, said(config, other).prediction
    np.testing.assert_array_equal(a[:, :5], b[:, :5])
    assert np.all(np.abs(a[:, 5:] - b[:, 5:]).max(axis=-1) > 1e-3)


@both_families
def test_documents_of_a_row_are_as_if_alone(config):
    first, second = tokens(2, 4, seed=1), tokens(2, 5, seed=2)
    rows = jnp.concatenate([first, second, jnp.zeros((2, 3), jnp.int32)], axis=1)
    segment = jnp.asarray([[1] * 4 + [2] * 5 + [0] * 3] * 2, jnp.int32)
    packed = said(config, DecoderInputs(rows, segment)).prediction
    close(packed[:, :4], said(config, first).prediction)
    close(packed[:, 4:9], said(config, second).prediction)
    assert np.all(np.isfinite(packed))


def test_positions_are_counted_in_each_document_unless_given():
    rows, segment = tokens(), jnp.asarray([[1, 1, 1, 2, 2, 2, 2, 0, 0], [1, 2, 3, 3, 3, 3, 3, 3, 3]], jnp.int32)
    position = jnp.asarray([[0, 1, 2, 0, 1, 2, 3, 0, 1], [0, 0, 0, 1, 2, 3, 4, 5, 6]], jnp.int32)
    counted = said(FORMS['gpt2'], DecoderInputs(rows, segment)).prediction
    np.testing.assert_array_equal(counted, said(FORMS['gpt2'], (rows, segment, position)).prediction)
    np.testing.assert_array_equal(positions_in(segment), position)


def test_rope_sees_differences_of_positions_only():
    rows, segment = tokens(), jnp.ones((2, 9), jnp.int32)
    position = jnp.arange(9, dtype=jnp.int32)[None] + jnp.asarray([[0], [100]], jnp.int32)
    close(said(LLAMA, rows).prediction, said(LLAMA, (rows, segment, position)).prediction, atol=2e-4)


@both_families
def test_with_a_cache_the_logits_are_the_same(config):
    rows, cache, got, start = tokens(), decoder_cache(config, 2, 12), [], 0
    for step in (5, 1, 3):
        out = said(config, DecoderInputs(rows[:, start : start + step], cache=cache))
        cache, start = out.taps['cache'], start + step
        got.append(out.prediction)
    close(jnp.concatenate(got, axis=1), said(config, rows).prediction)
    assert int(cache.length) == 9
    assert np.array_equal(cache.valid.sum(axis=1), [9, 9])


def test_prompts_padded_on_the_left_go_on_as_if_alone():
    config, short, long = FORMS['qwen'], tokens(1, 3, seed=5), tokens(1, 6, seed=6)
    rows = jnp.concatenate([jnp.concatenate([jnp.zeros((1, 3), jnp.int32), short], axis=1), long])
    segment = jnp.asarray([[0, 0, 0, 1, 1, 1], [1] * 6], jnp.int32)
    out = said(config, DecoderInputs(rows, segment, cache=decoder_cache(config, 2, 8)))
    following = jnp.asarray([[7], [8]], jnp.int32)
    after = said(config, DecoderInputs(following, cache=out.taps['cache'])).prediction
    assert np.all(np.isfinite(out.prediction))
    for row, prompt in ((0, short), (1, long)):
        alone = said(config, jnp.concatenate([prompt, following[row : row + 1]], axis=1)).prediction
        close(out.prediction[row, -1], alone[0, -2])
        close(after[row, -1], alone[0, -1])


def test_tokens_taken_back_leave_no_trace():
    rows = tokens()
    prompt = said(LLAMA, DecoderInputs(rows[:, :4], cache=decoder_cache(LLAMA, 2, 12))).taps['cache']
    tried = said(LLAMA, DecoderInputs((rows[:, 4:7] + 1) % 31, cache=prompt)).taps['cache']
    straight = said(LLAMA, DecoderInputs(rows[:, 4:6], cache=prompt)).prediction
    back = dataclasses.replace(tried, length=prompt.length)
    close(said(LLAMA, DecoderInputs(rows[:, 4:6], cache=back)).prediction, straight)
    cleared = dataclasses.replace(tried, valid=tried.valid.at[:, 4:7].set(False))
    close(said(LLAMA, DecoderInputs(rows[:, 4:6], cache=cleared)).prediction, straight)


def test_a_llama_by_hand():
    config = DecoderConfig(vocabulary=5, width=4, depth=1, heads=2, kv_heads=1, hidden=3, epsilon=1e-5)
    model, row = decoder(config), np.asarray([3, 1, 4])
    variables = made_up(model, jnp.asarray(row[None], jnp.int32))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables['params'])

    def norm(x, scale):
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + 1e-5) * scale

    def turn(x):
        angle = np.arange(3)[:, None]
        cos, sin = np.cos(angle), np.sin(angle)
        return np.concatenate([x[:, :1] * cos - x[:, 1:] * sin, x[:, 1:] * cos + x[:, :1] * sin], -1)

    block = p['blocks']['0']
    x = p['embedding']['table'][row]
    h = norm(x, block['norm1']['scale'])
    q, k, v = (h @ block['attention'][n]['kernel'] for n in 'qkv')
    heads = []
    for head in (q[:, :2], q[:, 2:]):
        scores = turn(head) @ turn(k).T / np.sqrt(2) + np.triu(np.full((3, 3), -np.inf), 1)
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        heads.append(weights @ v)
    x = x + np.concatenate(heads, -1) @ block['attention']['out']['kernel']
    h = norm(x, block['norm2']['scale'])
    gate = h @ block['mlp']['gate']['kernel']
    x = x + (gate / (1 + np.exp(-gate)) * (h @ block['mlp']['up']['kernel'])) @ block['mlp']['down']['kernel']
    hidden = norm(x, p['norm']['scale'])
    out = model.apply(variables, jnp.asarray(row[None], jnp.int32), key=KEY, train=False)[0]
    close(out.taps['hidden'][0], hidden)
    close(out.prediction[0], hidden @ p['embedding']['table'].T)


def test_long_rows_are_cut_and_nothing_changes(monkeypatch):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((2, 300, heads, 8)), jnp.float32) for heads in (4, 2, 2))
    segment = jnp.asarray(np.repeat(np.arange(6), 50)[None].repeat(2, 0))
    seen = segment[:, :, None] == segment[:, None, :]

    def value_and_slopes(seen):
        def total(q, k, v):
            mixed = attention.attend(q, k, v, seen=seen, causal=True, cap=3.0)
            return jnp.sum(jnp.sin(mixed)), mixed

        return jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(q, k, v)

    for given in (None, seen):
        cut = value_and_slopes(given)
        with monkeypatch.context() as whole:
            whole.setattr(attention, 'PART', 300)
            jax.tree.map(close, cut, value_and_slopes(given))
        monkeypatch.undo()


def test_caps_bound_the_logits_and_leave_small_scores_alone():
    assert float(jnp.abs(said(FORMS['qwen'], tokens()).prediction).max()) < 3.0
    wide = dataclasses.replace(LLAMA, attention_cap=1e4, logit_cap=1e4)
    close(applied(wide)(variables_of(LLAMA), tokens()).prediction, said(LLAMA, tokens()).prediction, atol=1e-3)


def test_bfloat16_leaves_parameters_and_logits_in_float32():
    config = FORMS['qwen']
    exact, rough = said(config, tokens()), said(config, tokens(), dtype=jnp.bfloat16)
    assert rough.prediction.dtype == jnp.float32
    assert rough.taps['hidden'].dtype == rough.taps['head'].dtype == jnp.bfloat16
    assert float(jnp.abs(rough.prediction - exact.prediction).max()) < 0.1 * float(jnp.abs(exact.prediction).max())


def test_remat_changes_no_number():
    config = FORMS['qwen']

    def gradient(remat):
        model = decoder(config, remat=remat)

        def loss(params):
            out = model.apply({'params': params, 'stats': {}}, tokens(), key=KEY, train=True)[0]
            return jnp.mean(jax.nn.logsumexp(out.prediction, axis=-1) ** 2) + jnp.mean(out.taps['queries2'] ** 2)

        return jax.jit(jax.grad(loss))(variables_of(config)['params'])

    jax.tree.map(functools.partial(close, atol=1e-4), gradient(False), gradient(True))


def test_with_remat_a_backward_pass_keeps_the_stream_between_blocks_alone():
    config = dataclasses.replace(LLAMA, depth=12)
    params = variables_shape(decoder(config), tokens())['params']

    def streams(remat):
        def residuals(params, rows):
            def total(params):
                said = decoder(config, remat=remat).apply({'params': params, 'stats': {}}, rows, key=KEY, train=True)[0]
                return jnp.sum(said.taps['hidden'])

            return jax.vjp(total, params)[1]

        traced = jax.make_jaxpr(residuals)(params, tokens()).jaxpr
        kept = {v for v in traced.outvars if not isinstance(v, Literal)} - {*traced.invars, *traced.constvars}
        return sum(v.aval.size for v in kept) / (2 * 9 * 16)

    assert streams(True) < 12 + 6 < 12 * 20 < streams(False)


def test_initialisation_is_gpt2s():
    config = dataclasses.replace(LLAMA, width=256, hidden=512, vocabulary=500, depth=2, tied=False)
    params = decoder(config).init(KEY, tokens())['params']
    block = params['blocks']['1']
    flat = [params['embedding']['table'], params['head']['table'], block['attention']['q']['kernel']]
    for leaf in [*flat, block['mlp']['gate']['kernel']]:
        assert abs(float(leaf.std()) - 0.02) < 0.001
    for leaf in (block['attention']['out']['kernel'], block['mlp']['down']['kernel']):
        assert abs(float(leaf.std()) - 0.01) < 0.0005


def test_every_matrix_but_learned_positions_has_a_rule():
    for config in FORMS.values():
        model = decoder(config)
        leaves = jax.tree_util.tree_leaves_with_path(variables_shape(model, tokens())['params'])
        paths = [jax.tree_util.keystr(p, simple=True, separator='/') for p, leaf in leaves if leaf.ndim == 2]
        unruled = [path for path in paths if not any(re.search(f'{rule}$', path) for rule, _ in model.rules)]
        assert unruled == (['position/table'] if config.positions == 'learned' else [])


def test_the_name_says_what_differs_from_the_defaults():
    assert decoder(LLAMA).name == (
        'decoder(DecoderConfig(vocabulary=31, width=16, depth=2, heads=4, hidden=24, kv_heads=2))'
    )
    assert decoder(LLAMA, dtype=jnp.bfloat16).name.endswith("kv_heads=2), dtype='bfloat16')")


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'kv_heads': 3}, 'kv_heads=3 does not divide heads=4'),
        ({'head_width': 5}, 'head_width=5 must be even'),
        ({'depth': 0}, 'depth is 0: it must be positive'),
        ({'norm': 'rsm'}, "unknown norm of a decoder 'rsm'; did you mean 'rms'"),
    ],
)
def test_refused_configurations(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(LLAMA, **change)


def test_more_tokens_than_learned_positions_are_refused():
    with pytest.raises(UserError, match='33 tokens in a row, but the decoder has 32 positions: cut the rows'):
        outputs_shape(decoder(FORMS['gpt2']), jax.ShapeDtypeStruct((1, 33), jnp.int32))
