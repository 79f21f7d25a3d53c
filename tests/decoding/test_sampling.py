"""Which tokens can be drawn, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_decoders import chi_square

from kdjax.decoding import GREEDY, PLAIN, Sampling, draw, log_distribution
from kdjax.decoding.sampling import row_keys
from kdjax.errors import UserError

LOGITS = np.random.default_rng(0).normal(size=(6, 300)).astype(np.float32) * 3


def kept_by_sorting(row, top_k=None, top_p=None):
    """The tokens that stay, the slow way."""
    order = np.argsort(-row)[:top_k]
    p = np.exp(row[order].astype(np.float64))
    p /= p.sum()
    if top_p is not None:
        order = order[: np.searchsorted(np.cumsum(p), top_p) + 1]
    return set(order.tolist())


@pytest.mark.parametrize('options', [{'top_k': 1}, {'top_k': 7}, {'top_p': 0.5}, {'top_p': 0.95}])
@pytest.mark.parametrize('temperature', [0.7, 1.0])
def test_what_stays_is_what_sorting_keeps(options, temperature):
    got = log_distribution(jnp.asarray(LOGITS), Sampling(temperature, **options))
    for row, log_probs in zip(LOGITS, np.asarray(got), strict=True):
        kept = kept_by_sorting(row / np.float32(temperature), **options)
        assert set(np.flatnonzero(log_probs > -np.inf).tolist()) == kept
        wanted = np.full(300, -np.inf)
        wanted[list(kept)] = (row / temperature)[list(kept)]
        np.testing.assert_allclose(np.exp(log_probs), np.exp(wanted) / np.exp(wanted).sum(), rtol=2e-5)


def test_the_nucleus_is_taken_after_top_k():
    row = jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1]))
    assert np.isfinite(log_distribution(row, Sampling(top_p=0.75))).sum() == 3
    assert np.isfinite(log_distribution(row, Sampling(top_k=3, top_p=0.75))).sum() == 2


def test_ties_stay_together_except_greedily():
    row = jnp.array([0.0, 1.0, 1.0, -1.0])
    assert np.isfinite(log_distribution(row, Sampling(top_k=1))).tolist() == [False, True, True, False]
    np.testing.assert_array_equal(np.exp(log_distribution(row, GREEDY)), [0, 1, 0, 0])


def test_limits_are_the_plain_distribution():
    plain = log_distribution(jnp.asarray(LOGITS), PLAIN)
    for sampling in (Sampling(top_k=300), Sampling(top_k=1000), Sampling(top_p=1.0)):
        np.testing.assert_array_equal(log_distribution(jnp.asarray(LOGITS), sampling), plain)
    cold = log_distribution(jnp.asarray(LOGITS), Sampling(1e-4))
    np.testing.assert_allclose(np.exp(cold), np.exp(log_distribution(jnp.asarray(LOGITS), GREEDY)), atol=1e-6)


@pytest.mark.parametrize('vocabulary', [3, 128, 300])
def test_draws_follow_the_distribution(vocabulary):
    probs = np.random.default_rng(1).dirichlet(np.full(vocabulary, 0.3)).astype(np.float32)
    probs[::3] = 0
    probs /= probs.sum()
    drawn = draw(row_keys(jax.random.key(2), 20000), jnp.tile(probs, (20000, 1)))
    assert chi_square(probs.astype(np.float64) / probs.sum(dtype=np.float64), np.asarray(drawn)) > 1e-3


def test_draws_need_no_normalisation_and_reach_the_last_token():
    """Two tokens of which the last one of a full block is one; weights as they come."""
    weights = jnp.zeros(256).at[jnp.array([5, 255])].set(jnp.array([30.0, 10.0]))
    drawn = np.asarray(draw(row_keys(jax.random.key(0), 4000), jnp.tile(weights, (4000, 1))))
    assert set(drawn.tolist()) == {5, 255}
    assert abs(np.mean(drawn == 255) - 0.25) < 0.03


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        ({'temperature': -1.0}, 'temperature is -1.0'),
        ({'temperature': float('nan')}, 'temperature is nan'),
        ({'top_k': 0}, 'top_k is 0'),
        ({'top_p': 0.0}, 'top_p is 0.0'),
        ({'top_p': 1.5}, r'top_p is 1.5: it has to lie in \(0, 1\]'),
    ],
)
def test_values_out_of_range_are_refused(options, says):
    with pytest.raises(UserError, match=says):
        Sampling(**options)
