"""Rewards to go, group advantages, and MiniLLM's split of the reverse KL over whole sequences, by enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses

WORDS, LENGTH = 3, 3
SEQUENCES = jnp.array(list(itertools.product(range(WORDS), repeat=LENGTH)))
PREFIX = SEQUENCES @ jnp.array([[0, 1, 3], [0, 0, 1], [0, 0, 0]]) + jnp.array([[0, 1, 4]])
"""The table row that predicts each token: the empty prefix, 3 of one word, 9 of two."""


def table(key):
    return jax.random.normal(key, (1 + WORDS + WORDS**2, WORDS))


STUDENT, TEACHER = (table(key) for key in jax.random.split(jax.random.key(1)))


def of_tokens(model):
    """Log-probabilities of the tokens of every sequence, `[27, 3]`."""
    logits = model[PREFIX]
    return jnp.take_along_axis(jax.nn.log_softmax(logits), SEQUENCES[..., None], axis=-1)[..., 0]


def sequence_kl(student):
    log_s, log_p = (jnp.sum(of_tokens(m), axis=-1) for m in (student, TEACHER))
    return jnp.sum(jnp.exp(log_s) * (log_s - log_p))


def estimated(student, *, single: bool, discount: float = 1.0, drawn_by=None):
    """The mean over sequences of the loss of MiniLLM, each weighted by the probability that it was drawn."""
    log_s, log_p = of_tokens(student), of_tokens(TEACHER)
    behaviour = jax.lax.stop_gradient(log_s)
    rewards = log_p - behaviour
    advantage = losses.rewards_to_go(rewards, after=single, discount=discount)
    values = losses.policy_gradient(log_s, advantage, behaviour)
    if single:
        values = values + losses.kl_reverse(student[PREFIX], TEACHER[PREFIX])
    drawn = jnp.exp(jnp.sum(behaviour if drawn_by is None else drawn_by, axis=-1))
    return jnp.sum(drawn * jnp.sum(values, axis=-1))


EXACT = jax.grad(sequence_kl)(STUDENT)


@pytest.mark.parametrize('single', [False, True])
def test_policy_gradient_is_that_of_the_kl_of_sequences(single):
    """Without and with the single step taken exactly."""
    got = jax.grad(lambda s: estimated(s, single=single))(STUDENT)
    np.testing.assert_allclose(got, EXACT, atol=1e-6)


def test_counting_the_own_reward_twice_is_another_gradient():
    """Returns that include the token's own reward beside the exact single step, as in the released code."""

    def twice(student):
        own = losses.kl_reverse(student[PREFIX], TEACHER[PREFIX])
        drawn = jax.lax.stop_gradient(jnp.exp(jnp.sum(of_tokens(student), axis=-1)))
        return estimated(student, single=False) + jnp.sum(drawn * jnp.sum(own, axis=-1))

    assert np.max(np.abs(jax.grad(twice)(STUDENT) - EXACT)) > 0.05


def test_the_exact_single_step_lowers_the_variance():
    def spread(single):
        def one(student, i):
            log_s, log_p = of_tokens(student)[i], of_tokens(TEACHER)[i]
            constant = jax.lax.stop_gradient(log_s)
            advantage = losses.rewards_to_go(log_p - constant, after=single)
            values = losses.policy_gradient(log_s, advantage)
            if single:
                values = values + losses.kl_reverse(student[PREFIX[i]], TEACHER[PREFIX[i]])
            return jnp.sum(values)

        gradients = jax.vmap(jax.grad(one), in_axes=(None, 0))(STUDENT, jnp.arange(len(SEQUENCES)))
        weight = jnp.exp(jnp.sum(of_tokens(STUDENT), axis=-1))
        deviation = jnp.sum(jnp.square(gradients - EXACT[None]), axis=(1, 2))
        return jnp.sum(weight * deviation)

    assert spread(True) < 0.8 * spread(False)


def test_rewards_to_go():
    rewards = jnp.array([1.0, 2.0, 4.0, 8.0])
    np.testing.assert_allclose(losses.rewards_to_go(rewards), [15, 14, 12, 8])
    np.testing.assert_allclose(losses.rewards_to_go(rewards, after=True), [14, 12, 8, 0])
    np.testing.assert_allclose(losses.rewards_to_go(rewards, discount=0.5), [4, 6, 8, 8])
    np.testing.assert_allclose(losses.rewards_to_go(rewards, discount=0.5, after=True), [6, 8, 8, 0])
    np.testing.assert_allclose(losses.rewards_to_go(rewards, mean=True), [15 / 4, 14 / 3, 6, 8])
    np.testing.assert_allclose(losses.rewards_to_go(rewards, mean=True, after=True), [14 / 3, 6, 8, 0])
    np.testing.assert_allclose(losses.rewards_to_go(rewards, discount=0), rewards)


def test_rewards_to_go_pass_over_what_does_not_count():
    rewards = jnp.array([[1.0, jnp.nan, 2.0, 4.0], [1.0, 2.0, jnp.inf, jnp.nan]])
    where = jnp.array([[True, False, True, True], [True, True, False, False]])
    for options in ({}, {'after': True, 'mean': True}, {'discount': 0.5, 'mean': True}):
        got = losses.rewards_to_go(rewards, where=where, **options)
        np.testing.assert_array_equal(got[~where], 0.0)
        for row, counts, values in zip(rewards, where, got, strict=True):
            np.testing.assert_allclose(values[counts], losses.rewards_to_go(row[counts], **options))


def test_group_advantages():
    rewards = jnp.array([[1.0, 0.0, 0.0, 1.0], [3.0, 3.0, 3.0, 3.0]])
    half = 0.5 / (np.sqrt(1 / 3) + 1e-4)
    np.testing.assert_allclose(losses.group_advantages(rewards), [[half, -half, -half, half], [0, 0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(losses.group_advantages(rewards, scale=False)[0], [0.5, -0.5, -0.5, 0.5])


def test_a_mixture_bounds_the_importance_ratio():
    log_s, log_p = jax.nn.log_softmax(8 * STUDENT), jax.nn.log_softmax(8 * TEACHER)
    mixed = losses.log_mixture(log_s, log_p, alpha=0.2)
    np.testing.assert_allclose(jnp.sum(jnp.exp(mixed), axis=-1), 1.0, rtol=1e-5)
    assert np.max(jnp.exp(log_s - mixed)) <= 1.25 + 1e-5
    np.testing.assert_array_equal(losses.log_mixture(log_s, log_p, alpha=0), log_s)
    np.testing.assert_array_equal(losses.log_mixture(log_s, log_p, alpha=1), log_p)
