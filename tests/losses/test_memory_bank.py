"""The memory bank of CRD as pure functions, in the order in which a step calls them."""

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def test_scores_are_cosines_over_temperature():
    embedding, rows = jnp.array([[1.0, 0.0]]), jnp.array([[[1.0, 0.0], [0.0, 1.0], [-0.6, 0.8]]])
    scores = losses.memory_scores(embedding, rows, temperature=0.5)
    np.testing.assert_allclose(scores, [[2.0, 0.0, -1.2]], rtol=1e-6)


def test_log_z_makes_the_mean_score_uniform():
    """exp(scores) / Z has the mean 1 / bank_size; masked rows are left out; nothing flows back."""
    scores = jax.random.normal(jax.random.key(0), (4, 3))
    log_z = losses.memory_log_z(scores, bank_size=7)
    np.testing.assert_allclose(jnp.mean(jnp.exp(scores - log_z)), 1 / 7, rtol=1e-5)
    where = jnp.array([True, False, True, True])
    masked = losses.memory_log_z(scores.at[1].set(jnp.nan), bank_size=7, where=where)
    np.testing.assert_allclose(masked, losses.memory_log_z(scores[where], bank_size=7), rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(lambda x: losses.memory_log_z(x, bank_size=7))(scores), 0.0)


def test_log_z_of_large_scores_is_finite():
    np.testing.assert_allclose(losses.memory_log_z(jnp.full((2, 3), 1e4), bank_size=1), 1e4)


def test_update_moves_the_rows_of_the_batch_only():
    bank = unit(jax.random.normal(jax.random.key(1), (5, 3)))
    new = unit(jax.random.normal(jax.random.key(2), (2, 3)))
    index = jnp.array([3, 0])
    updated = losses.update_memory(bank, index, new, momentum=0.25)
    np.testing.assert_allclose(updated[index], unit(0.25 * bank[index] + 0.75 * new), rtol=1e-5)
    np.testing.assert_array_equal(updated[jnp.array([1, 2, 4])], bank[jnp.array([1, 2, 4])])


def test_update_leaves_out_masked_examples_and_foreign_indices():
    bank = unit(jax.random.normal(jax.random.key(1), (5, 3))).astype(jnp.bfloat16)
    new = jnp.full((3, 3), jnp.nan).at[1].set(jnp.array([0.0, 0.0, 2.0]))
    where = jnp.array([False, True, True])
    updated = losses.update_memory(bank, jnp.array([0, 2, 5]), new, momentum=0.0, where=where)
    assert updated.dtype == jnp.bfloat16
    np.testing.assert_array_equal(updated, bank.at[2].set(jnp.array([0.0, 0.0, 1.0], jnp.bfloat16)))


def test_update_has_no_gradient_and_keeps_a_bank_at_momentum_one():
    bank, new = unit(jax.random.normal(jax.random.key(1), (5, 3))), jnp.ones((1, 3))
    index = jnp.array([4])
    np.testing.assert_allclose(losses.update_memory(bank, index, new, momentum=1), bank, rtol=1e-6)
    slope = jax.grad(lambda x: jnp.sum(losses.update_memory(bank, index, x)))(new)
    np.testing.assert_array_equal(slope, 0.0)
