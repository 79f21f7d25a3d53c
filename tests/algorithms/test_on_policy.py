"""Learning from one's own texts has the gradient that it should have, counted over all texts there are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from tiny_texts import (
    ALL,
    FROZEN,
    PROMPT,
    ROOM,
    START,
    STUDENT,
    TAUGHT,
    TEACHER,
    learns,
    log_probs,
    logits,
    lookup,
    stored,
)

from kdjax import losses
from kdjax.algorithms.on_policy import sequence_kl_reverse
from kdjax.algorithms.rollouts import replayed, unrolled
from kdjax.algorithms.writing import first_tokens, written
from kdjax.data.text_batch import prepare_text
from kdjax.errors import UserError
from kdjax.models.model import Outputs
from kdjax.objectives import term, total
from kdjax.view import View

KEY = jax.random.key(0)
NEW = ROOM + 1 - PROMPT
PARAMS = START['params']


def every_text():
    """A batch of all texts after one prompt, as if they were drawn; `behaviour` is still 0."""
    batch = unrolled(prepare_text(stored(1)))
    rows = np.concatenate([np.tile(np.asarray(batch['tokens'][:, :PROMPT]), (len(ALL), 1)), ALL], axis=1)
    many = {name: jnp.repeat(column, len(ALL), axis=0) for name, column in batch.items()}
    drawn = jnp.broadcast_to(jnp.arange(ROOM) >= PROMPT - 1, many['where'].shape)
    text = {'tokens': jnp.asarray(rows[:, :-1]), 'label': jnp.asarray(rows[:, 1:]), 'where': drawn, 'drawn': drawn}
    return many | text


TEXTS = every_text()


def student(params):
    return {'params': params, 'stats': {}}


def text_log_probs(params):
    """Of each text, under student and teacher."""
    both = log_probs(STUDENT, student(params), TEXTS), log_probs(TEACHER, TAUGHT, TEXTS)
    return tuple(jnp.sum(jnp.where(TEXTS['drawn'], x, 0.0), axis=1) for x in both)


def exact(params):
    """KL(student || teacher) over all texts."""
    log_s, log_p = text_log_probs(params)
    return jnp.sum(jnp.exp(log_s) * (log_s - log_p))


def gradients(objective, batch):
    """Of each row alone, flat: `[rows, weights]`."""
    said = _said(batch)

    def value(logits, taught, row):
        row = {name: column[None] for name, column in row.items()}
        nodes = {'student': lambda view: Outputs(logits[None]), 'teacher': lambda view: Outputs(taught[None])}
        return total(objective(View(nodes, row, 0)))

    return _pulled(batch, jax.jit(jax.vmap(jax.grad(value)))(*said, batch))


@jax.jit
def _said(batch):
    return logits(STUDENT, START, batch), logits(TEACHER, TAUGHT, batch)


@jax.jit
def _pulled(batch, slopes):
    """From gradients in the student's logits to gradients in its weights."""

    def one(row, slope):
        row = {name: row[name][None] for name in ('tokens', 'segment', 'position')}
        pull = jax.vjp(lambda params: logits(STUDENT, student(params), row), PARAMS)[1]
        return ravel_pytree(pull(slope[None])[0])[0]

    return jax.vmap(one)(batch, slopes)


def mixture(alpha):
    """Log-probabilities of tokens, and probabilities of texts, drawn from alpha p + (1 - alpha) s."""
    log_s, log_p = log_probs(STUDENT, START, TEXTS), log_probs(TEACHER, TAUGHT, TEXTS)
    behaviour = jnp.where(TEXTS['drawn'], losses.log_mixture(log_s, log_p, alpha=alpha), 0.0)
    return behaviour, np.exp(np.sum(np.asarray(behaviour, np.float64), axis=1))


@pytest.fixture(scope='module')
def wanted():
    """The gradient of the KL of a text, for each of its tokens."""
    return np.asarray(ravel_pytree(jax.jit(jax.grad(exact))(PARAMS))[0]) / NEW


def off(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def mean_over_all(objective, alpha):
    behaviour, probability = mixture(alpha)
    np.testing.assert_allclose(probability.sum(), 1, rtol=1e-5)
    return probability @ np.asarray(gradients(objective, TEXTS | {'behaviour': behaviour}), np.float64)


class TestOverAllTexts:
    def test_the_students_own(self, wanted):
        assert off(mean_over_all(sequence_kl_reverse(), 0.0), wanted) < 1e-5

    @pytest.mark.parametrize('alpha', [0.0, 0.2, 1.0])
    def test_with_the_ratio_of_prefixes_whoever_writes(self, wanted, alpha):
        assert off(mean_over_all(sequence_kl_reverse(importance='prefix'), alpha), wanted) < 1e-4

    def test_the_ratio_of_the_token_alone_is_biased_and_close(self, wanted):
        """What MiniLLM leaves out, and how much it is here."""
        bias = off(mean_over_all(sequence_kl_reverse(), 0.2), wanted)
        assert 1e-3 < bias < 0.5

    def test_without_the_long_part_it_is_another_gradient(self, wanted):
        single = term(losses.kl_reverse, 'student', 'teacher', where='batch.drawn')
        assert off(mean_over_all(single, 0.0), wanted) > 0.05

    def test_length_normalisation_is_another_gradient(self, wanted):
        assert off(mean_over_all(sequence_kl_reverse(mean=True), 0.0), wanted) > 0.01

    def test_a_clip_that_nothing_reaches_changes_nothing(self):
        wide, none = (mean_over_all(sequence_kl_reverse(clip=clip), 0.2) for clip in (1e3, None))
        assert off(wide, none) < 1e-6
        assert off(mean_over_all(sequence_kl_reverse(clip=0.01), 0.2), none) > 1e-3

    def test_the_texts_of_a_stop_token_are_texts_too(self):
        """Texts that end early: summed over tokens, the gradient is that of the KL of texts that end early."""
        over = np.cumsum(np.asarray(TEXTS['drawn'] & (TEXTS['label'] == 0)), axis=1)
        lives = TEXTS['drawn'] & jnp.asarray(np.pad(over[:, :-1] == 0, ((0, 0), (1, 0)), constant_values=True))
        _, first = np.unique(np.where(lives, TEXTS['label'], -1), axis=0, return_index=True)

        def shorter(params):
            both = log_probs(STUDENT, student(params), TEXTS), log_probs(TEACHER, TAUGHT, TEXTS)
            log_s, log_p = (jnp.sum(jnp.where(lives, x, 0.0), axis=1)[first] for x in both)
            return jnp.sum(jnp.exp(log_s) * (log_s - log_p))

        want = ravel_pytree(jax.jit(jax.grad(shorter))(PARAMS))[0]
        log_s = jnp.where(lives, log_probs(STUDENT, START, TEXTS), 0.0)
        batch = TEXTS | {'where': lives, 'drawn': lives, 'behaviour': log_s}
        each = np.asarray(gradients(sequence_kl_reverse(), batch), np.float64) * np.asarray(lives).sum(1)[:, None]
        probability = np.exp(np.sum(np.asarray(log_s, np.float64), axis=1))
        assert off((probability[:, None] * each)[first].sum(0), want) < 1e-5


@pytest.mark.parametrize(
    ('writers', 'weights'),
    [({'student': STUDENT}, None), ({'student': STUDENT, 'teacher': TEACHER}, (0.8, 0.2))],
    ids=['student', 'mixture'],
)
def test_the_mean_over_what_is_written_is_the_gradient(wanted, writers, weights):
    """To three standard errors along the gradient and along directions that know nothing of it."""
    rollout = written(writers, first_tokens(PROMPT), weights=weights)
    data = {name: jnp.repeat(column, 4000, axis=0) for name, column in prepare_text(stored(1)).items()}
    batch = jax.jit(lambda data: rollout.apply({}, data, lookup, step=0, key=KEY)[0])(data)
    each = np.asarray(gradients(sequence_kl_reverse(importance='prefix'), batch), np.float64)
    directions = np.stack([wanted, *np.random.default_rng(0).standard_normal((4, wanted.size))])
    along = (each - wanted) @ directions.T
    z = along.mean(0) / (along.std(0, ddof=1) / len(along) ** 0.5)
    assert np.abs(z).max() < 3
    assert off(each.mean(0), wanted) < 0.3


def test_a_student_comes_closer_to_its_teacher():
    """MiniLLM as it is: texts of the mixture, ratios of tokens, clipped; half of the batches old texts."""
    writers = written({'student': STUDENT, 'teacher': TEACHER}, first_tokens(PROMPT), weights=(0.8, 0.2))
    algorithm = learns(
        sequence_kl_reverse(clip=0.2), optimizer=optax.adam(0.02), rollout=replayed(writers, capacity=64, fresh=0.5)
    )
    data = {name: jnp.repeat(column, 32, axis=0) for name, column in stored(1).items()}
    state = algorithm.init(KEY, FROZEN, data)
    many = jax.jit(lambda s: jax.lax.fori_loop(0, 100, lambda _, s: algorithm.step(s, FROZEN, data, KEY)[0], s))
    before, after = (float(exact(s['variables']['student']['params'])) for s in (state, many(state)))
    assert after < 0.2 * before


def test_refused():
    with pytest.raises(UserError, match="unknown importance 'text'; known: prefix, token"):
        sequence_kl_reverse(importance='text')
    with pytest.raises(UserError, match=r"clip=0.2 bounds the ratio of a token: use it with importance='token'"):
        sequence_kl_reverse(importance='prefix', clip=0.2)
