"""Functions beside the losses of the language-model literature, and what all of these refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses


def taid_in_numbers(values, *, start=0.4, end=1.0, alpha=5e-4, beta=0.99):
    """The published update, in plain numbers; `t` after each loss."""
    t, momentum, previous, ts = start, 0.0, None, []
    for n, value in enumerate(values):
        if previous is not None:
            momentum = beta * momentum + (1 - beta) * (previous - value) / (previous + 1e-15)
            line = start + (end - start) * n / len(values)
            t = min(end, max(line, t + alpha / (1 + np.exp(-momentum)) * (1 - t)))
        previous = value
        ts.append(t)
    return ts


@pytest.mark.parametrize('alpha', [5e-4, 0.3])
def test_taid_step_is_the_published_update(alpha):
    values = np.array([3.0, 2.5, 2.6, 1.0, 1.0, 4.0, 0.5, 0.4])

    def step(state, now):
        state = losses.taid_step(state, *now, alpha=alpha)
        return state, state.t

    progress = jnp.arange(8, dtype=jnp.float32) / 8
    _, ts = jax.lax.scan(step, losses.taid_start(), (jnp.asarray(values, jnp.float32), progress))
    np.testing.assert_allclose(ts, taid_in_numbers(values, alpha=alpha), rtol=1e-5)
    assert np.all(np.diff(ts) >= 0)


def test_taid_starts_with_t_times_the_gradient_of_kl():
    """At the teacher's logits plus a little, to first order."""
    t = jax.random.normal(jax.random.key(0), (2, 6))
    s = t + 1e-3 * jax.random.normal(jax.random.key(1), (2, 6))
    got, full = (jax.grad(lambda s, a=a: jnp.sum(losses.taid(s, t, a)))(s) for a in (0.4, 1.0))
    np.testing.assert_allclose(got, 0.4 * full, atol=1e-6)


def test_tokens_are_selected_among_those_that_count():
    delta = jnp.array([[5.0, jnp.nan, 1.0], [3.0, 4.0, jnp.inf]])
    where = jnp.array([[True, False, True], [True, True, False]])
    selected = losses.select_tokens(delta, keep=0.5, where=where)
    np.testing.assert_array_equal(selected, [[True, False, False], [False, True, False]])
    assert not np.any(losses.select_tokens(delta, where=jnp.zeros_like(where)))
    many = jax.random.normal(jax.random.key(0), (1000,))
    np.testing.assert_array_equal(losses.select_tokens(many, keep=0.4), many >= np.quantile(many, 0.6))


def test_recalibrated_confidence():
    """The bounds that the docstring states."""
    sure = jnp.array([1.0, 0, 0, 0, 0])
    got = [float(jnp.exp(losses.recalibrated(sure, scale))[0]) for scale in (1.0, 0.3)]
    np.testing.assert_allclose(got, [0.405, 0.875], atol=1e-3)


def test_log_probabilities_of_chunks():
    values = jnp.array([[-1.0, -2.0, -4.0, -8.0, jnp.nan], [-1.0, -1.0, -1.0, -1.0, -1.0]])
    chunk = jnp.array([[0, 0, 1, 2, -1], [-1, 0, 1, 1, 1]])
    got = losses.chunk_log_probs(values, chunk, chunks=4)
    np.testing.assert_allclose(got, [[-3, -4, -8, 0], [-1, -3, 0, 0]])
    slope = jax.grad(lambda v: jnp.sum(losses.chunk_log_probs(v, chunk, chunks=4)))(values)
    np.testing.assert_array_equal(slope, chunk >= 0)


def test_the_last_of_each_chunk():
    values = jnp.array([[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    chunk = jnp.array([[0, 0, 1, 2, -1], [-1, 1, 1, 1, 3]])
    np.testing.assert_array_equal(losses.last_of_chunks(values, chunk, chunks=4), [[2, 3, 4, 0], [0, 4, 0, 5]])


def test_the_first_of_each_chunk():
    rows = jnp.arange(10.0).reshape(1, 5, 2)
    chunk = jnp.array([[-1, 0, 0, 2, 2]])
    got = losses.first_of_chunks(rows, chunk, chunks=4)
    np.testing.assert_array_equal(got, [[[2, 3], [0, 0], [6, 7], [0, 0]]])
    slope = jax.grad(lambda r: jnp.sum(losses.first_of_chunks(r, chunk, chunks=4)))(rows)
    np.testing.assert_array_equal(slope[0, :, 0], [0, 1, 0, 1, 0])


def test_what_follows_begins_a_word():
    logits = jax.random.normal(jax.random.key(0), (1, 4, 5))
    starts = jnp.array([False, True, False, False, True])
    where = jnp.array([[True, True, True, False]])
    got = losses.boundary_log_probs(logits.at[:, 3].set(jnp.nan), starts, where)
    wanted = jnp.log(jax.nn.softmax(logits)[0, :, 1] + jax.nn.softmax(logits)[0, :, 4])
    np.testing.assert_allclose(got, [[wanted[1], wanted[2], 0, 0]], rtol=1e-5)


def test_chunks_merge_up_to_the_next_boundary():
    boundary = jnp.log(jnp.array([[0.01, 0.5, 0.2, 0.05, 0.02]]))
    merged = losses.merged_chunks(boundary)
    np.testing.assert_array_equal(merged, [[0, 0, 1, 2, 2]])
    values = jnp.array([[-1.0, -2.0, -3.0, -4.0, -5.0]])
    np.testing.assert_allclose(losses.chunk_log_probs(values, merged, chunks=5), [[-3, -3, -9, 0, 0]])


def test_shared_vocabulary():
    s, t = jax.random.normal(jax.random.key(0), (2, 3, 6))
    padded = jnp.concatenate([t, jnp.full((3, 2), -jnp.inf)], axis=-1)
    got = losses.kl_forward(*losses.shared_vocabulary(s, padded, vocab='pad'))
    np.testing.assert_allclose(got, losses.kl_forward(s, t), rtol=1e-6)
    order = jnp.array([5, 2, 0])
    shared = losses.shared_vocabulary(s, t[:, ::-1], vocab='intersect', ids=(order, 5 - order))
    np.testing.assert_array_equal(shared[1], t[:, order])
    with pytest.raises(ValueError, match=r"teacher has 8 tokens, student 6: pass vocab='pad' .* 'intersect'"):
        losses.shared_vocabulary(s, padded)


def test_cross_attention():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 4, 6))
    student, teacher = jnp.array([[True, True, False, False]]), jnp.array([[True, True, True, False]])
    to_teacher, to_student = losses.cross_attention(
        q.at[:, 2:].set(jnp.nan), k, student_where=student, teacher_where=teacher
    )
    np.testing.assert_allclose(jnp.sum(to_teacher, axis=-1), [[1, 1, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(to_student, axis=-1), [[1, 1, 1, 0]], rtol=1e-6)
    wanted = jax.nn.softmax(q[0, :2] @ k[0, :3].T / jnp.sqrt(6.0))
    np.testing.assert_allclose(to_teacher[0, :2, :3], wanted, rtol=1e-5)
    np.testing.assert_array_equal(to_teacher[0, :, 3], 0.0)


def test_spread_counts_what_counts():
    x = jax.random.normal(jax.random.key(0), (5, 3))
    where = jnp.array([True, True, False, True, False])
    got = losses.spread(x.at[2].set(100.0), where=where)
    np.testing.assert_allclose(got, np.std(x[where]), rtol=1e-6)
    assert losses.spread(jnp.full((5, 3), 7.0)) == 1.0


def test_attention_of_padding():
    """Padding is no key and has no value, and the mask of labels takes queries away, but no keys."""
    heads = jax.random.normal(jax.random.key(0), (4, 2, 5, 2, 3))
    segments = jnp.array([[1, 1, 1, 0, 0]] * 2)
    spoiled = jnp.where((segments > 0)[None, ..., None, None], heads, jnp.nan)
    got = losses.attention_relation(*spoiled, segments)
    alone = losses.attention_relation(*heads[:, :, :3])
    np.testing.assert_allclose(got, jnp.pad(alone, ((0, 0), (0, 2))), rtol=1e-5, atol=1e-7)
    where = jnp.array([[False, True, True, False, False]] * 2)
    fewer = losses.attention_relation(*spoiled, segments, where=where)
    np.testing.assert_allclose(fewer, jnp.where(where, got, 0.0), rtol=1e-6)


S, T, R = jax.random.normal(jax.random.key(0), (3, 2, 3, 5))
WHERE = jnp.array([[True, True, False], [False, True, True]])


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        ('adaptive_kl', (S, T)),
        ('adaspec', (S, T, R)),
        ('advantage_expectation', (S, T, R)),
        ('alm', (-jnp.abs(S[..., 0]), -jnp.abs(T[..., 0]))),
        ('calibrated_top_k', (S, jnp.argsort(-T, axis=-1)[..., :2], jnp.abs(T[..., :2]))),
        ('kl_estimate', (S[..., 0], T[..., 0])),
        ('policy_gradient', (S[..., 0], T[..., 0], R[..., 0])),
        ('student_space', (S, T, jnp.argmax(R, axis=-1))),
        ('uld', (S, T[..., :4])),
    ],
)
def test_tokens_are_examples(name, arguments):
    loss = getattr(losses, name)
    flat = [a.reshape(6, *a.shape[2:]) for a in arguments]
    tokens = loss(*arguments, where=WHERE)
    np.testing.assert_allclose(tokens.reshape(6), loss(*flat, where=WHERE.reshape(6)), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(tokens[~WHERE], 0.0)


def zeros(*shape):
    return jnp.zeros(shape)


IDS = jnp.zeros(4, jnp.int32)
REFUSED = {
    'form': (lambda: losses.kl_estimate(zeros(4), zeros(4), form='k4'), "form is 'k4': choose one of 'k1', 'k2', 'k3'"),
    'draws': (
        lambda: losses.kl_estimate(zeros(4), zeros(3)),
        r'teacher has shape \(3,\), student \(4,\): pair the values one to one',
    ),
    'advantage': (
        lambda: losses.policy_gradient(zeros(4), zeros(3)),
        r'advantage has shape \(3,\), log_probs \(4,\): pair',
    ),
    'clip without behaviour': (
        lambda: losses.policy_gradient(zeros(4), zeros(4), clip=0.2),
        'clip is 0.2 without `behaviour`: give the log-probabilities of who drew',
    ),
    'clip': (lambda: losses.policy_gradient(zeros(4), zeros(4), zeros(4), clip=-0.1), 'clip is -0.1: it has to be'),
    'alpha': (lambda: losses.log_mixture(zeros(4), zeros(4), alpha=2), 'alpha is 2: .* between 0 and 1'),
    'discount': (lambda: losses.rewards_to_go(zeros(4), discount=1.5), 'discount is 1.5: .* between 0 and 1'),
    'one sample': (lambda: losses.group_advantages(zeros(3, 1)), r'shape \(3, 1\): a group needs two samples'),
    'beta of dpo': (lambda: losses.dpo(*[zeros(4)] * 4, beta=0), 'beta is 0: it has to be above 0'),
    'pairs': (lambda: losses.dpo(*[zeros(4)] * 3, zeros(5)), r'reference_rejected has shape \(5,\), chosen'),
    'reference': (
        lambda: losses.advantage_expectation(zeros(4, 5), zeros(4, 5), zeros(4, 6)),
        'teacher has 5 classes, student 6',
    ),
    't': (lambda: losses.taid(zeros(4, 5), zeros(4, 5), 1.5), 't is 1.5: .* between 0 and 1'),
    'mu': (lambda: losses.adaptive_kl(zeros(4, 5), zeros(4, 5), mu=-1), 'mu is -1: .* between 0 and 1'),
    'keep': (lambda: losses.select_tokens(zeros(4), keep=3), 'keep is 3: .* between 0 and 1'),
    'scale': (lambda: losses.recalibrated(zeros(4, 5), 0), 'scale is 0: it has to be above 0'),
    'map': (
        lambda: losses.calibrated_top_k(zeros(4, 5), jnp.zeros((4, 2), jnp.int32), zeros(4, 2), form='cubic'),
        "form is 'cubic': choose one of 'softmax', 'linear'",
    ),
    'temperature of alm': (lambda: losses.alm(zeros(4), zeros(4), temperature=0), 'temperature is 0'),
    'chunks': (lambda: losses.alm(zeros(4), zeros(5)), r'teacher has shape \(5,\), student \(4,\)'),
    'positions': (lambda: losses.uld(zeros(4, 5), zeros(3, 7)), r'student has logits \(4, 5\), teacher \(3, 7\): pair'),
    'no ids': (
        lambda: losses.shared_vocabulary(zeros(4, 5), zeros(4, 6), vocab='intersect'),
        'without ids: give kdjax.data.vocabularies.match',
    ),
    'vocab': (lambda: losses.shared_vocabulary(zeros(4, 5), zeros(4, 5), vocab='cut'), "vocab is 'cut': choose one"),
    'width of keys': (
        lambda: losses.cross_attention(zeros(4, 6), zeros(4, 8), student_where=IDS > 0, teacher_where=IDS > 0),
        'queries have width 6, keys 8: project the queries',
    ),
    'heads': (
        lambda: losses.value_relation(zeros(4, 2, 3), zeros(4, 4, 3)),
        r'student has relations \(2, 4, 4\), teacher \(4, 4, 4\) .*: pass heads= to split',
    ),
    'split': (
        lambda: losses.value_relation(zeros(4, 2, 3), zeros(4, 4, 3), heads=4),
        '2 heads of width 3 cannot be split into 4: choose a divisor',
    ),
    'grouped heads': (
        lambda: losses.attention_relation(zeros(4, 3, 2), zeros(4, 2, 2), zeros(4, 3, 2), zeros(4, 3, 2)),
        '3 query heads do not share 2 key heads evenly',
    ),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refused(case):
    attempt, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        attempt()
