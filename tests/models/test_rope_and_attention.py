"""Rotary positions and attention by their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.models.attention import attend
from kdjax.models.rope import LlamaScaling, frequencies, rotate, rotation
from kdjax.models.sequences import positions_in


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_frequencies_fall_from_1_by_powers_of_theta():
    np.testing.assert_allclose(frequencies(8, 10000.0), [1, 0.1, 0.01, 0.001], rtol=1e-6)


def test_llama_scaling_leaves_fast_turns_and_stretches_slow_ones():
    """With an original context of 2 pi 100: turns in it are 100 times the frequency, 100, 10, 1 and .1 here."""
    scaling = LlamaScaling(factor=8.0, low=1.0, high=16.0, original_context=round(200 * np.pi))
    plain, scaled = frequencies(8, 10000.0), frequencies(8, 10000.0, scaling)
    kept = (10 - 1) / (16 - 1)
    np.testing.assert_allclose(scaled / plain, [1, kept + (1 - kept) / 8, 1 / 8, 1 / 8], rtol=1e-3)


def test_rotation_keeps_lengths_and_scores_of_equal_distances():
    x, y = drawn(1, 1, 2, 8), drawn(1, 1, 2, 8, seed=1)

    def at(x, position):
        return rotate(x, rotation(jnp.full((1, 1), position), frequencies(8, 10000.0)))

    np.testing.assert_allclose(jnp.linalg.norm(at(x, 37), axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-6)
    near, far = (jnp.sum(at(x, a) * at(y, b), axis=-1) for a, b in ((5, 2), (105, 102)))
    np.testing.assert_allclose(near, far, atol=1e-5)
    np.testing.assert_array_equal(at(x, 0), x)


def test_the_first_feature_turns_with_the_one_half_a_head_further():
    x = jnp.zeros((1, 1, 1, 4)).at[..., 0].set(1.0)
    turned = rotate(x, rotation(jnp.full((1, 1), 1), frequencies(4, 10000.0)))
    np.testing.assert_allclose(turned[0, 0, 0], [np.cos(1), 0, np.sin(1), 0], atol=1e-6)


def test_positions_begin_anew_in_each_document():
    segment = jnp.asarray([[1, 1, 2, 2, 2, 0, 0], [1, 2, 3, 4, 4, 4, 4]], jnp.int32)
    assert positions_in(segment).tolist() == [[0, 1, 0, 1, 2, 0, 1], [0, 0, 0, 0, 1, 2, 3]]


@pytest.mark.parametrize('groups', [1, 2, 4])
@pytest.mark.parametrize('causal', [True, False])
def test_attention_is_that_of_jax(groups, causal):
    q, k, v = drawn(2, 7, 4, 8), drawn(2, 7, groups, 8, seed=1), drawn(2, 7, groups, 8, seed=2)
    seen = jnp.asarray(np.random.default_rng(3).uniform(size=(2, 7, 7)) < 0.5) | jnp.eye(7, dtype=bool)[None]
    theirs = jax.nn.dot_product_attention(q, k, v, mask=seen[:, None], is_causal=causal)
    np.testing.assert_allclose(attend(q, k, v, seen=seen, causal=causal), theirs, atol=1e-6)


def test_a_cap_is_a_tanh_of_the_scores():
    q, k, v = (drawn(1, 5, 1, 4, seed=seed) for seed in range(3))
    scores = 1.5 * np.tanh(np.asarray(q[0, :, 0] @ k[0, :, 0].T) / 2 / 1.5)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(attend(q, k, v, cap=1.5)[0, :, 0], weights @ v[0, :, 0], atol=1e-6)


def test_a_query_that_sees_nothing_gives_no_nan():
    q, k, v = (drawn(1, 3, 1, 4, seed=seed) for seed in range(3))
    slopes = jax.grad(lambda q: jnp.sum(attend(q, k, v, seen=jnp.zeros((1, 3, 3), bool))))(q)
    assert np.all(np.isfinite(slopes))
