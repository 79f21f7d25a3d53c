"""Logit standardisation, and what KD becomes under it."""

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses


def logits(seed, *shape):
    return 3 * jax.random.normal(jax.random.key(seed), shape) + 1


def test_mean_zero_and_deviation_one_with_one_degree_of_freedom_less():
    z = np.asarray(losses.standardize(logits(0, 4, 5)))
    np.testing.assert_allclose(z.mean(axis=-1), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(axis=-1, ddof=1), 1, rtol=1e-5)


def test_axis_is_moveaxis_and_bfloat16_becomes_float32():
    z = logits(0, 4, 5).astype(jnp.bfloat16)
    moved = losses.standardize(z.T, axis=0)
    assert moved.dtype == jnp.float32
    np.testing.assert_allclose(moved.T, losses.standardize(z), rtol=1e-6, atol=1e-6)


def test_kd_of_standardised_logits_sees_neither_shift_nor_scale():
    s, t = logits(0, 4, 5), logits(1, 4, 5)
    value = losses.kl_forward(losses.standardize(s), losses.standardize(t), temperature=2)
    moved = losses.kl_forward(losses.standardize(3 * s - 2), losses.standardize(0.5 * t + 1), temperature=2)
    np.testing.assert_allclose(moved, value, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        losses.kl_forward(losses.standardize(3 * t - 2), losses.standardize(t)), 0, atol=1e-6
    )
