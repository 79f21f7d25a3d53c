"""The fused vocabulary loss as a program: precision, cotangents, masks, memory, refusals. Values: see the suite."""

import json
import math
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses import _fused_rows, pointwise

TOKENS, WIDTH, VOCABULARY = 48, 64, 1000
DIVERGENCES = {
    'kl_forward': (pointwise.kl_forward, losses.kl_forward),
    'kl_reverse': (pointwise.kl_reverse, losses.kl_reverse),
    'jsd': (pointwise.jsd(0.5), losses.jensen_shannon),
}


def drawn(*shape, seed, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal(shape)


def pair(apart=None):
    """Hidden states and heads of student and teacher, logits of standard deviation 2; `apart`: relative noise."""
    teacher = drawn(TOKENS, WIDTH, seed=0), drawn(VOCABULARY, WIDTH, seed=1, scale=2 / WIDTH**0.5)
    other = drawn(TOKENS, WIDTH, seed=2), drawn(VOCABULARY, WIDTH, seed=3, scale=2 / WIDTH**0.5)
    student = other if apart is None else tuple(t + apart * o for t, o in zip(teacher, other, strict=True))
    return *student, *teacher


LABEL = jnp.arange(TOKENS, dtype=jnp.int32) % VOCABULARY


@jax.jit(static_argnums=0, static_argnames=('chunk', 'precision'))
def slopes(divergence, args, weights, where=None, chunk=16, precision='float32'):
    """Gradient of the weighted sum in the student's hidden states and head."""
    *student, h, w = args

    def total(*student):
        values = losses.fused_divergence(
            *student, LABEL, h, w, divergence=divergence, chunk=chunk, where=where, precision=precision
        )
        return jnp.sum(weights * values)

    return jax.grad(total, (0, 1))(*student)


@jax.jit(static_argnums=0)
def dense_slopes(loss, args, weights):
    h, w, t, u = args
    return jax.grad(lambda h, w: jnp.sum(weights * loss(h @ w.T, t @ u.T)), (0, 1))(h, w)


def exact(loss, args, weights):
    """The same in float64, of dense logits."""
    with jax.enable_x64(True):
        args, weights = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), (args, weights))
        return dense_slopes(loss, args, weights)


def off(got, wanted):
    """The largest relative error in norm."""
    pairs = ((np.asarray(g, np.float64), np.asarray(w)) for g, w in zip(got, wanted, strict=True))
    return max(np.linalg.norm(g - w) / np.linalg.norm(w) for g, w in pairs)


FLOAT32 = {None: 1e-5, 1e-1: 1e-5, 1e-2: 1e-4, 1e-3: 1e-3}
"""Bounds by how far the student is from the teacher: two float32 logits of 1 to 10 are 1e-7 to 1e-6 off, and the
gradient is their difference; no order of float32 operations after the logits can do better."""
FLOAT64 = dict.fromkeys(FLOAT32, 1e-6)


@pytest.mark.parametrize(('precision', 'bounds'), [('float32', FLOAT32), ('float64', FLOAT64)])
@pytest.mark.parametrize('name', DIVERGENCES)
def test_gradients_of_float32_inputs_against_float64(name, precision, bounds):
    divergence, loss = DIVERGENCES[name]
    for apart, bound in bounds.items():
        args = tuple(jnp.asarray(x, jnp.float32) for x in pair(apart))
        weights = jnp.full(TOKENS, 1 / TOKENS)
        got = slopes(divergence, args, weights, precision=precision)
        assert got[0].dtype == got[1].dtype == jnp.float32
        assert off(got, exact(loss, args, weights)) < bound, apart


@pytest.mark.parametrize('name', DIVERGENCES)
def test_gradients_of_bfloat16_inputs_are_within_a_percent_also_close_to_the_teacher(name):
    """Logits in bfloat16 would be 50 % off there: the rounding of the gradient itself is all that is left."""
    divergence, loss = DIVERGENCES[name]
    for apart in (None, 1e-3):
        args = tuple(jnp.asarray(x, jnp.bfloat16) for x in pair(apart))
        weights = jnp.full(TOKENS, 1 / TOKENS)
        got = slopes(divergence, args, weights)
        assert got[0].dtype == got[1].dtype == jnp.bfloat16
        assert off(got, exact(loss, args, weights)) < 0.01, apart


def test_what_logits_in_bfloat16_would_cost():
    """The measure of the test above is one that sees it."""
    args = tuple(jnp.asarray(x, jnp.bfloat16) for x in pair(1e-2))
    weights = jnp.full(TOKENS, 1 / TOKENS)

    def rough(*logits):
        return losses.kl_forward(*(jax.lax.reduce_precision(z, exponent_bits=8, mantissa_bits=7) for z in logits))

    assert off(dense_slopes(rough, args, weights), exact(losses.kl_forward, args, weights)) > 0.1


def test_hidden_states_and_head_of_different_types():
    h, w, t, u = (jnp.asarray(x, jnp.float32) for x in pair())
    h = h.astype(jnp.bfloat16)
    weights = jnp.full(TOKENS, 1 / TOKENS)
    got = slopes(pointwise.kl_forward, (h, w, t, u), weights)
    assert (got[0].dtype, got[1].dtype) == (jnp.bfloat16, jnp.float32)
    assert off(got, exact(losses.kl_forward, (h, w, t, u), weights)) < 0.01


@pytest.mark.parametrize('weights', [jnp.linspace(-1.0, 2.0, TOKENS), jnp.zeros(TOKENS), jnp.full(TOKENS, 0.3)])
def test_any_cotangent_is_exact(weights):
    """Uneven ones make the logits again."""
    args = tuple(jnp.asarray(x, jnp.float32) for x in pair())
    got, wanted = slopes(pointwise.kl_reverse, args, weights), exact(losses.kl_reverse, args, weights)
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g, w, atol=1e-5 * max(1e-9, float(np.max(np.abs(w)))))


def masked(count):
    return jnp.arange(TOKENS) % 2 == 0 if count else jnp.zeros(TOKENS, bool)


@pytest.mark.parametrize('even', [True, False], ids=['even cotangent', 'uneven cotangent'])
@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_what_stands_in_masked_rows_reaches_nothing(bad, even):
    h, w, t, u = (jnp.asarray(x, jnp.float32) for x in pair())
    weights = jnp.ones(TOKENS) if even else jnp.linspace(1.0, 2.0, TOKENS)
    where = masked(1)
    spoiled = (jnp.where(where[:, None], h, bad), w, jnp.where(where[:, None], t, bad), u)
    got = slopes(pointwise.jsd(), spoiled, jnp.where(where, weights, bad) if not even else weights, where)
    wanted = slopes(pointwise.jsd(), (h, w, t, u), jnp.where(where, weights, 0.0))
    for g, right in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g, right, rtol=1e-5, atol=1e-6)


def test_a_batch_of_nobody_is_zero():
    h, w, t, u = (jnp.full_like(jnp.asarray(x, jnp.float32), jnp.nan) if i % 2 == 0 else jnp.asarray(x, jnp.float32)
                  for i, x in enumerate(pair()))  # fmt: skip
    values = losses.fused_divergence(h, w, LABEL, t, u, where=masked(0), hard_weight=0.5)
    np.testing.assert_array_equal(values, jnp.zeros(TOKENS))
    for g in slopes(pointwise.kl_forward, (h, w, t, u), jnp.ones(TOKENS), masked(0)):
        np.testing.assert_array_equal(g, jnp.zeros_like(g))


@pytest.mark.parametrize(('chunk', 'tokens'), [(1, 47), (7, 48), (48, 48), (1000, 47)])
def test_chunks_change_nothing(chunk, tokens):
    h, w, t, u = (jnp.asarray(x, jnp.float32) for x in pair())
    h, t, label = h[:tokens], t[:tokens], LABEL[:tokens]
    got = jax.jit(lambda h, w: losses.fused_divergence(h, w, label, t, u, chunk=chunk, hard_weight=0.1))(h, w)
    wanted = losses.kl_forward(h @ w.T, t @ u.T) + 0.1 * losses.cross_entropy(h @ w.T, label)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


BY_WORDS = {
    'a divisor': {'words_at_once': 250},
    'the last block lies over the one before': {'words_at_once': 300},
    'padding': {'words_at_once': 300, 'vocabulary': 901},
    'a block of padding alone': {'words_at_once': 250, 'vocabulary': 749},
    'labels, temperature, caps': {
        'words_at_once': 300, 'hard_weight': 0.3, 'temperature': 2.0, 't_squared': True, 'softcaps': (3.0, 5.0),
    },
    'in float64': {'words_at_once': 999, 'precision': 'float64', 'hard_weight': 1},
}  # fmt: skip


@pytest.mark.parametrize('name', BY_WORDS)
def test_a_few_rows_at_a_time_change_nothing(name, monkeypatch):
    """The maths after the logits; 47 tokens are chunks of 20, of which the last is padded."""
    h, w, t, u = (jnp.asarray(x, jnp.float32) for x in pair())
    options = BY_WORDS[name] | {'words_at_once': None, 'divergence': pointwise.jsd(0.3), 'chunk': 18}
    label, where = LABEL[:47] % options.get('vocabulary', VOCABULARY), masked(1)[:47]

    def total(h, w):
        values = losses.fused_divergence(h[:47], w, label, t[:47], u, where=where, **options)
        return jnp.sum(values), values

    def both():
        return jax.jit(jax.value_and_grad(lambda *args: total(*args), (0, 1), has_aux=True))(h, w)

    (_, wanted), right = both()
    monkeypatch.setattr(_fused_rows, 'ENTRIES_AT_ONCE', {'cpu': 4 * VOCABULARY})
    (_, values), slopes = both()
    np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-6)
    assert off(slopes, right) < 1e-6


@pytest.mark.parametrize('words', [4096 * 3, 4096 * 3 + 8, 12289], ids=['even', 'divisor', 'prime'])
def test_blocks_of_the_head_change_nothing(words):
    h, w = jnp.asarray(drawn(4, 3, seed=0), jnp.float32), jnp.asarray(drawn(words, 3, seed=1), jnp.float32)
    label = jnp.arange(4, dtype=jnp.int32)
    fused = jax.jit(jax.grad(lambda w: jnp.sum(losses.fused_divergence(h, w, label, hard_weight=1, chunk=2))))(w)
    wanted = jax.nn.softmax(h @ w.T).T @ h - jnp.zeros_like(w).at[label].set(h)
    np.testing.assert_allclose(fused, wanted, atol=1e-6)


@pytest.mark.parametrize('name', BY_WORDS)
def test_blocks_of_words_change_nothing(name):
    """With an even and with an uneven cotangent; and values, where nothing is differentiated."""
    h, w, t, u = (jnp.asarray(x, jnp.float32) for x in pair())

    def total(h, w, weights, options):
        label = LABEL % options.get('vocabulary', VOCABULARY)
        values = losses.fused_divergence(h, w, label, t, u, divergence=pointwise.jsd(0.3), where=masked(1), **options)
        return jnp.sum(values * weights), values

    @jax.jit
    def all_ways(h, w, weights):
        by_words, whole = {'chunk': 16, **BY_WORDS[name]}, {'chunk': 16, **BY_WORDS[name], 'words_at_once': None}
        slopes = jax.value_and_grad(total, (0, 1), has_aux=True)
        return slopes(h, w, weights, by_words), slopes(h, w, weights, whole), total(h, w, weights, by_words)[1]

    for even in (True, False):
        weights = jnp.where(masked(1), 1.0 if even else jnp.linspace(1.0, 2.0, TOKENS), 0.0)
        ((_, values), slopes), ((_, wanted), right), undifferentiated = all_ways(h, w, weights)
        np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-6)
        assert off(slopes, right) < 2e-6, even
        np.testing.assert_allclose(undifferentiated, values, rtol=1e-5, atol=1e-6)


def test_blocks_of_words_hold_no_chunk_of_a_vocabulary():
    tokens, words, block = 64, 65536, 512
    hidden, head = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((tokens, 8), (words, 8)))

    def mean(h, w, t, u, label):
        return jnp.mean(losses.fused_divergence(h, w, label, t, u, chunk=tokens, words_at_once=block))

    label = jax.ShapeDtypeStruct((tokens,), jnp.int32)
    step = jax.jit(jax.value_and_grad(mean, (0, 1))).lower(hidden, head, hidden, head, label).compile()
    assert step.memory_analysis().temp_size_in_bytes < 4 * (12 * tokens * block + 2 * words * 8)


@pytest.mark.parametrize('name', DIVERGENCES)
def test_no_array_of_tokens_by_words(name):
    """A masked mean, forward and backward: beside its results it holds some chunks' logits, and no gradient twice."""
    tokens, words, chunk = 4096, 8192, 16
    hidden, head = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((tokens, WIDTH), (words, WIDTH)))
    label, where = (jax.ShapeDtypeStruct((tokens,), dtype) for dtype in (jnp.int32, jnp.bool))

    def mean(h, w, t, u, label, where):
        options = {'divergence': DIVERGENCES[name][0], 'where': where, 'chunk': chunk}
        return jnp.sum(losses.fused_divergence(h, w, label, t, u, **options)) / jnp.sum(where.astype(jnp.float32))

    step = jax.jit(jax.value_and_grad(mean, (0, 1))).lower(hidden, head, hidden, head, label, where).compile()
    shapes = {tuple(map(int, shape.split(','))) for shape in re.findall(r'f32\[([\d,]+)\]', step.as_text())}
    assert max(map(math.prod, shapes)) == words * WIDTH
    few = 9 * chunk * words + 8 * tokens * WIDTH + words * WIDTH
    assert step.memory_analysis().temp_size_in_bytes < 4 * few < 4 * tokens * words / 7


REFUSED = {
    'teachers in pairs': ({'teachers': 1}, '1 arrays of teachers: give hidden states and head of each in turn'),
    'another vocabulary': ({'words': 7}, 'teacher 1 has 7 words, the student 5: cut or pad'),
    'another width': ({'width': 4}, r'teacher 1: hidden states \(4, 2\), head \(5, 4\)'),
    'temperature': ({'temperature': 0}, 'temperature is 0: it has to be above 0'),
    'vocabulary': ({'vocabulary': 6}, 'vocabulary is 6: it has to lie between 1 and 5'),
    'weights': ({'weights': (0.5, 0.5)}, 'weights has 2 entries where 1 are needed'),
    'softcaps': ({'softcaps': (30.0,)}, 'softcaps has 1 entries where 2 are needed'),
    'words at once': ({'words_at_once': 6}, 'words_at_once is 6: it has to lie between 1 and 5'),
    'precision': ({'precision': 'bfloat16'}, "precision is 'bfloat16': choose one of 'float32', 'float64'"),
    'mask': ({'where': jnp.ones(3, bool)}, r'`where` has shape \(3,\), the examples \(4,\)'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_is_refused(name):
    options, said = REFUSED[name]
    options = dict(options)
    teachers = jnp.ones((4, 2)), jnp.ones((options.pop('words', 5), options.pop('width', 2)))
    with pytest.raises(ValueError, match=said):
        losses.fused_divergence(
            jnp.ones((4, 3)), jnp.ones((5, 3)), LABEL[:4], *teachers[: options.pop('teachers', 2)], **options
        )


@pytest.mark.parametrize('beta', [-0.1, 1.1, 1e-4, 0, 1])
def test_beta_that_the_paper_does_not_have(beta):
    with pytest.raises(ValueError, match=f'beta is {beta}: '):
        pointwise.jsd(beta)


def test_the_ends_of_a_family_are_divergences_of_their_own():
    for convention in ('normalized', 'continuous'):
        assert pointwise.jsd(0, convention) is pointwise.kl_forward
        assert pointwise.jsd(1, convention) is pointwise.kl_reverse
    assert pointwise.skew_kl(0) is pointwise.kl_forward
    assert pointwise.skew_kl_reverse(0) is pointwise.kl_reverse


def test_other_refusals_of_divergences():
    with pytest.raises(ValueError, match="convention is 'ours': choose one of 'paper', 'normalized', 'continuous'"):
        pointwise.jsd(0.5, 'ours')
    for skewed in (pointwise.skew_kl, pointwise.skew_kl_reverse):
        with pytest.raises(ValueError, match=r'alpha is 1\.5: it has to lie between 0 and 1'):
            skewed(1.5)


def on_eight(*meshes):
    """What `fused_on_eight.py` says, and whether it is what one device says."""
    script = pathlib.Path(__file__).with_name('fused_on_eight.py')
    found = subprocess.run(
        [sys.executable, '-W', 'error', str(script), *meshes], capture_output=True, text=True, timeout=600
    )
    assert found.returncode == 0, found.stderr[-3000:]
    said = json.loads(found.stdout.splitlines()[-1])
    assert set(said) == {f'{mesh} {how}' for mesh in meshes for how in ('even', 'uneven', 'by words')}
    for name, one in said.items():
        assert one['values'] < 1e-6, name
        assert one['slopes'] < 1e-5, name
        assert one['moved'] == [], f'{name}: nothing is gathered or moved between devices'


def test_eight_devices_say_what_one_says():
    """Rows split over four, each of their heads over two."""
    on_eight('both')


@pytest.mark.slow
def test_eight_devices_that_split_rows_or_the_head_alone_say_what_one_says():
    on_eight('data', 'tensor')
