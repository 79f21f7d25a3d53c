"""Known values, hand-computed, of every metric of logits."""

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import metrics
from kdjax.errors import UserError


def logits_of(probabilities):
    return np.log(np.asarray(probabilities, np.float64))


PROBABILITIES = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]
LABELS = np.array([0, 1, 1, 0])


def test_accuracy_nll_and_brier_of_four_examples_by_hand():
    logits = logits_of(PROBABILITIES)
    assert metrics.accuracy(logits, LABELS) == 0.5
    assert metrics.nll(logits, LABELS) == pytest.approx(-np.log([0.9, 0.2, 0.6, 0.3]).mean())
    assert metrics.brier(logits, LABELS) == pytest.approx(2 * np.mean([0.1**2, 0.8**2, 0.4**2, 0.7**2]))


def test_ece_by_hand():
    # confidences .9 .8 .6 .7 in 5 bins: (.8, 1] holds .9 (right), (.6, .8] .8 and .7 (wrong), (.4, .6] .6
    logits = logits_of(PROBABILITIES)
    expected = 2 / 4 * 0.75 + 1 / 4 * 0.1 + 1 / 4 * 0.4
    assert metrics.ece(logits, LABELS, bins=5) == pytest.approx(expected)


def test_calibration_bins_hold_every_example_once_and_nan_where_empty():
    table = metrics.calibration_bins(logits_of(PROBABILITIES), LABELS, bins=4)
    assert table.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert table.count.tolist() == [0, 0, 2, 2]
    np.testing.assert_allclose(table.confidence, [np.nan, np.nan, 0.65, 0.85])
    np.testing.assert_allclose(table.accuracy, [np.nan, np.nan, 0.5, 0.5])


@pytest.mark.parametrize('bins', [1, 15])
def test_a_calibrated_model_has_no_calibration_error(bins):
    logits = np.tile(logits_of([[0.75, 0.25]]), (4, 1))
    assert metrics.ece(logits, np.array([0, 0, 0, 1]), bins=bins) == pytest.approx(0, abs=1e-12)


def test_certainty_falls_into_the_last_bin():
    table = metrics.calibration_bins(np.array([[1e4, 0.0]]), np.array([0]), bins=15)
    assert table.count[-1] == 1 and table.count.sum() == 1


@pytest.mark.parametrize('errors', [0, 1, 3, 10])
def test_aurc_of_a_perfect_ranking(errors):
    n = 10
    confidence = np.linspace(0.95, 0.55, n)
    labels = (np.arange(n) >= n - errors).astype(int)  # the least confident are the wrong ones
    expected = sum(i / (n - errors + i) for i in range(1, errors + 1)) / n
    logits = logits_of(np.stack([confidence, 1 - confidence], axis=-1))
    assert metrics.aurc(logits, labels) == pytest.approx(expected)


def test_aurc_punishes_the_reverse_ranking():
    logits = logits_of([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    assert metrics.aurc(logits, np.array([1, 0, 0, 0])) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_aurc_of_equal_confidences_is_the_error_rate_in_any_order():
    logits = np.tile(logits_of([[0.7, 0.3]]), (6, 1))
    labels = np.array([1, 1, 0, 0, 0, 0])
    assert metrics.aurc(logits, labels) == pytest.approx(1 / 3)
    assert metrics.aurc(logits, labels[::-1]) == pytest.approx(1 / 3)


def test_agreement_and_kl_by_hand():
    student, teacher = logits_of([[0.5, 0.5], [0.1, 0.9]]), logits_of([[0.8, 0.2], [0.3, 0.7]])
    kl = [0.8 * np.log(1.6) + 0.2 * np.log(0.4), 0.3 * np.log(3) + 0.7 * np.log(7 / 9)]
    assert metrics.kl_to_teacher(student, teacher) == pytest.approx(np.mean(kl))
    assert metrics.kl_to_teacher(teacher, teacher) == 0
    assert metrics.agreement(student, teacher) == 1
    assert metrics.agreement(student, teacher[[0, 0]]) == 0.5


def test_entropy_of_the_uniform_and_of_the_certain():
    assert metrics.entropy(np.zeros((3, 8))) == pytest.approx(np.log(8))
    assert metrics.entropy(np.array([[0.0, -1e4]])) == 0


def test_probabilities_of_zero_stay_out_of_the_divergence():
    ruled_out = np.array([[0.0, 0.0, -np.inf]])
    assert metrics.kl_to_teacher(np.zeros((1, 3)), ruled_out) == pytest.approx(np.log(1.5))
    assert metrics.entropy(ruled_out) == pytest.approx(np.log(2))


def test_extreme_logits_stay_finite():
    logits, labels = np.array([[1e30, -1e30], [-1e4, 1e4]], np.float32), np.array([0, 0])
    measured = metrics.classification(logits, labels, logits)
    assert all(np.isfinite(value) for value in measured.values())
    assert measured['nll'] == pytest.approx(1e4)


def test_adding_a_constant_to_the_logits_changes_nothing():
    logits = np.random.default_rng(0).normal(size=(50, 7))
    labels = np.arange(50) % 7
    before, after = (metrics.classification(z, labels, z[::-1]) for z in (logits, logits + 100))
    assert before == pytest.approx(after)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_jax_arrays_of_any_float_dtype_are_taken(dtype):
    logits = jnp.asarray([[2.0, 0.0], [0.0, 4.0]], dtype)
    measured = metrics.classification(logits, jnp.array([0, 1]), logits)
    assert measured['nll'] == pytest.approx((np.log1p(np.exp(-2)) + np.log1p(np.exp(-4))) / 2)
    assert all(isinstance(value, float) for value in measured.values())


def test_without_a_teacher_nothing_is_said_about_fidelity():
    measured = metrics.classification(logits_of(PROBABILITIES), LABELS)
    assert set(measured) == {'accuracy', 'nll', 'ece', 'brier', 'aurc', 'entropy'}
    assert set(metrics.classification(logits_of(PROBABILITIES), LABELS, logits_of(PROBABILITIES))) == {
        *measured,
        'agreement',
        'kl_to_teacher',
    }


def test_diverged_logits_are_named():
    with pytest.raises(UserError, match=r'logits of example 1 are not finite \(2 such examples\)'):
        metrics.accuracy(np.array([[0.0, 1.0], [np.nan, 0.0], [np.inf, 0.0]]), np.array([0, 0, 0]))


def test_no_examples_are_an_error():
    with pytest.raises(UserError, match='no examples'):
        metrics.nll(np.zeros((0, 3)), np.zeros(0, int))
