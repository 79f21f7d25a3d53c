"""Metrics of sets of samples: closed forms, equal sets, cases by hand, and what is refused."""

import numpy as np
import pytest

from kdjax.errors import UserError
from kdjax.metrics.diversity import distance_within_classes, vendi_score
from kdjax.metrics.frechet import frechet_distance, gaussian_frechet, moments
from kdjax.metrics.histogram import histogram_divergences
from kdjax.metrics.mmd import kid, median_distance, mmd
from kdjax.metrics.modes import mode_metrics, mode_weights
from kdjax.metrics.neighbours import neighbourhoods
from kdjax.metrics.samples import asked_classes, sample_metrics


def normal(rows, width=4, *, seed=0, shift=0.0, scale=1.0):
    return shift + scale * np.random.default_rng(seed).standard_normal((rows, width))


def covariance(width, seed):
    root = np.random.default_rng(seed).standard_normal((width, width))
    return root @ root.T


# The Frechet distance.


def test_frechet_of_one_dimension_is_by_hand():
    assert gaussian_frechet(np.ones(1), 4 * np.eye(1), -np.ones(1), 9 * np.eye(1)) == pytest.approx(4 + (2 - 3) ** 2)


def test_frechet_of_covariances_that_commute_is_the_distance_of_deviations():
    turn = np.linalg.qr(covariance(5, 0))[0]
    a, b = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 2, 0, 1, 7])
    s, t = (turn @ np.diag(x**2) @ turn.T for x in (a, b))
    assert gaussian_frechet(np.zeros(5), s, np.zeros(5), t) == pytest.approx(((a - b) ** 2).sum())


def test_frechet_of_any_covariances_agrees_with_the_matrix_root_of_scipy():
    from scipy.linalg import sqrtm

    s, t = covariance(6, 1), covariance(6, 2)
    expected = np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert gaussian_frechet(np.zeros(6), s, np.zeros(6), t) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_sets_is_that_of_their_moments_and_a_shift_adds_its_square():
    rows = normal(50)
    np.testing.assert_allclose(moments(rows)[1], np.cov(rows.T), rtol=1e-12)
    assert frechet_distance(rows, rows + 3.0) == pytest.approx(4 * 9.0)
    assert frechet_distance(rows.astype(np.float32), rows.astype(np.float32)) == pytest.approx(0, abs=1e-10)


def test_frechet_of_fewer_examples_than_features_is_finite():
    assert 0 < frechet_distance(normal(5, 16), normal(5, 16, seed=1)) < 100


# Neighbours.


def test_equal_sets_are_precise_and_covered():
    rows = normal(40)
    found = neighbourhoods(rows, rows, k=3)
    assert found['precision'] == found['recall'] == found['coverage'] == 1.0
    assert found['density'] >= 1.0  # each sample is in its own ball too


def test_sets_apart_share_nothing():
    found = neighbourhoods(normal(40), normal(40, seed=1, shift=100.0))
    assert found == dict.fromkeys(found, 0.0)


def test_neighbours_on_a_line_by_hand():
    """With k = 1 the balls of 0, 1, 3 reach 1, 1 and 2; those of 0.5, 0.6 reach 0.1 each; 10 reaches 9.4."""
    real, made = np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [0.6], [10.0]])
    found = neighbourhoods(real, made, k=1)
    assert found['precision'] == pytest.approx(2 / 3)
    assert found['recall'] == pytest.approx(2 / 3)  # 10's ball holds 1 and 3
    assert found['density'] == pytest.approx((2 + 2 + 0) / 3)
    assert found['coverage'] == pytest.approx(2 / 3)


def test_one_mode_is_precise_but_covers_half():
    rng = np.random.default_rng(0)
    side = np.where(np.arange(200) % 2, 10.0, -10.0)[:, None]
    real, made = side + rng.standard_normal((200, 2)), 10.0 + rng.standard_normal((200, 2))
    found = neighbourhoods(real, made)
    assert found['precision'] > 0.9 and found['recall'] <= 0.5 and found['coverage'] <= 0.5


def test_coverage_of_the_truth_is_as_the_paper_says():
    found = neighbourhoods(normal(600, 2), normal(600, 2, seed=1), k=3)
    assert found['coverage'] == pytest.approx(1 - 2.0**-3, abs=0.05)
    assert found['density'] == pytest.approx(1.0, abs=0.1)


# Maximum mean discrepancy.


def test_mmd_of_gaussians_is_the_closed_form():
    """N(0, 1) against N(d, 1) with h = 1: 2 (1 - exp(-d^2 / 6)) / sqrt(3), over 60 pairs of sets."""
    shift = 1.0
    expected = 2 * (1 - np.exp(-(shift**2) / 6)) / np.sqrt(3)
    pairs = [(normal(100, 1, seed=i), normal(100, 1, seed=1000 + i, shift=shift)) for i in range(60)]
    found = [mmd(a, b, bandwidth=1) for a, b in pairs]
    assert abs(np.mean(found) - expected) < 3 * np.std(found) / np.sqrt(60)


def test_kid_of_gaussians_is_the_closed_form():
    """Of one feature: E (xy + 1)^3 = 1 + 3 m m' + 3 s s' + t t' of the first three moments."""
    shift = 0.5
    first, second, third = (np.array(m) for m in ((0, shift), (1, 1 + shift**2), (0, shift**3 + 3 * shift)))
    gap = [np.square(m[0] - m[1]) for m in (first, second, third)]
    expected = 3 * gap[0] + 3 * gap[1] + gap[2]
    pairs = [(normal(200, 1, seed=i), normal(200, 1, seed=1000 + i, shift=shift)) for i in range(80)]
    found = [kid(a, b) for a, b in pairs]
    assert abs(np.mean(found) - expected) < 3 * np.std(found) / np.sqrt(80)


def test_mmd_is_unbiased_at_the_truth_and_reads_its_bandwidth_from_the_real_set():
    found = [mmd(normal(50, 2, seed=i), normal(50, 2, seed=1000 + i)) for i in range(60)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(60)
    assert median_distance(np.array([[0.0], [1.0], [5.0]])) == 4.0
    real, made = normal(50), normal(50, seed=1, scale=2.0)
    assert mmd(real, made) == mmd(real, made, bandwidth=median_distance(real))


# Diversity.


def test_distances_within_classes_are_over_all_pairs():
    features = np.array([[0.0], [1.0], [3.0], [10.0], [14.0]])
    labels = np.array([0, 0, 0, 1, 1])
    assert distance_within_classes(features, labels) == pytest.approx((1 + 3 + 2 + 4) / 4)
    assert np.isnan(distance_within_classes(features[2:4], labels[2:4]))


def test_vendi_counts_directions():
    assert vendi_score(np.eye(5)) == pytest.approx(5)
    assert vendi_score(np.ones((7, 3))) == pytest.approx(1)
    assert vendi_score(np.repeat(np.eye(3), [2, 2, 2], axis=0)) == pytest.approx(3)
    shares = np.array([3, 1]) / 4
    assert vendi_score(np.repeat(np.eye(2), [3, 1], axis=0)) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_vendi_is_the_same_from_either_gram_matrix():
    rows = normal(6, 8)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / 6)
    wide = vendi_score(np.concatenate([rows, rows]))  # twice the examples, fewer features than examples
    assert vendi_score(rows) == pytest.approx(np.exp(-(values * np.log(values)).sum()))
    assert wide == pytest.approx(vendi_score(rows))


# Modes and histograms.


def test_modes_by_hand():
    centres, mode = np.array([[0.0, 0], [1, 0], [5, 0]]), np.array([0, 0, 1])
    made = np.array([[0.1, 0], [0.9, 0], [0.5, 0.1], [5, 0], [9, 9]])
    found = mode_weights(made, centres, mode, reach=0.6)
    assert found == pytest.approx([0.6, 0.2])
    said = mode_metrics(found, np.array([0.5, 0.5]))
    assert said == pytest.approx({'modes': 2, 'in_modes': 0.8, 'weight_error': 0.25})
    alone = mode_metrics(np.array([0.9, 0.01]), np.array([0.5, 0.5]))
    assert alone['modes'] == 1
    assert mode_metrics(np.zeros(2), np.ones(2))['weight_error'] == 1.0


def test_histogram_divergences_by_hand():
    """Four cells of 0.2 each, 0.2 outside; samples in two cells."""
    made = np.array([[0.1, 0.1], [0.2, 0.3], [0.9, 0.9], [0.8, 0.7]])
    found = histogram_divergences(made, np.full((2, 2), 0.2), low=(0, 0), high=(1, 1))
    assert found['kl_to_data'] == pytest.approx(np.log(0.5 / 0.2) - 1 / 8)
    smooth = np.array([2.5, 0.5, 0.5, 2.5, 0.5]) / 6.5
    assert found['kl_from_data'] == pytest.approx((0.2 * np.log(0.2 / smooth)).sum())
    assert found['total_variation'] == pytest.approx(0.6)


def test_divergence_of_the_law_from_itself_is_small_and_unbiased():
    rng, cells = np.random.default_rng(0), np.full((4, 4), 1 / 16)
    found = [histogram_divergences(rng.uniform(size=(2000, 2)), cells, low=(0, 0), high=(1, 1)) for _ in range(30)]
    values = [each['kl_to_data'] for each in found]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(30) + 1e-4


def test_a_sample_outside_all_mass_is_dear_but_finite():
    found = histogram_divergences(np.full((1, 2), 9.0), np.ones((1, 1)), low=(0, 0), high=(1, 1))
    assert found['kl_to_data'] == pytest.approx(-np.log(1e-12), rel=1e-3)


# All at once, and what is refused.


def test_all_metrics_at_once_are_finite_and_named():
    found = sample_metrics(normal(30), normal(30, seed=1), np.arange(30) % 3)
    names = 'frechet kid mmd precision recall density coverage within_class vendi'
    assert list(found) == names.split() and np.isfinite(list(found.values())).all()
    said = asked_classes(np.log([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    assert said == pytest.approx({'class_accuracy': 0.5, 'class_nll': -0.5 * np.log(0.9 * 0.4)})


@pytest.mark.parametrize(
    ('call', 'said'),
    [
        (lambda: frechet_distance(normal(1), normal(9)), 'real examples: 1 examples, but the metric needs 2'),
        (lambda: neighbourhoods(normal(9), normal(5), k=5), 'generated: 5 examples, but the metric needs 6'),
        (lambda: kid(normal(9), np.full((9, 4), np.nan)), r'generated: example 0 is not finite \(9 such examples\)'),
        (lambda: mmd(normal(9, 3), normal(9, 4)), '3 features of real examples, 4 of generated ones: both come from'),
        (lambda: histogram_divergences(normal(3, 2), np.ones((2, 2)), low=(0, 0), high=(1, 1)), 'add up to 4, .* law'),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(call, said):
    with pytest.raises(UserError, match=said):
        call()
