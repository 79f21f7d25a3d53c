"""Scores of condensed sets: known values, their range, and what is refused."""

import math

import numpy as np
import pytest

from kdjax.errors import UserError
from kdjax.metrics.condensation import asymmetry, augmentation_robust_score, label_robust_score


def test_label_robust_score_takes_fractions():
    """A hard-label gap of 30 points and 10 points past random: 0.228, where per cents give -0.156."""
    got = label_robust_score(synthetic_hard=0.5, full_hard=0.8, synthetic=0.6, random=0.5)
    assert got == pytest.approx((math.exp(-0.1) - math.exp(-1)) / (math.e - math.exp(-1)))
    assert got == pytest.approx(0.228, abs=1e-3)


def test_scores_reach_their_ends_and_not_beyond():
    best = label_robust_score(synthetic_hard=1.0, full_hard=0.0, synthetic=1.0, random=0.0)
    worst = label_robust_score(synthetic_hard=0.0, full_hard=1.0, synthetic=0.0, random=1.0)
    assert (best, worst) == (pytest.approx(1.0), pytest.approx(0.0))
    ends = [
        augmentation_robust_score(synthetic=a, random=1 - a, synthetic_plain=a, random_plain=1 - a) for a in (0.0, 1.0)
    ]
    assert ends == [pytest.approx(0.0), pytest.approx(1.0)]


def test_weights_move_between_the_two_parts():
    parts = {'synthetic': 0.7, 'random': 0.4, 'synthetic_plain': 0.5, 'random_plain': 0.4}
    only = [augmentation_robust_score(**parts, weight=w) for w in (1.0, 0.0)]
    scaled = [(math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1)) for a in (0.3, 0.1)]
    assert only == [pytest.approx(s) for s in scaled]


def test_per_cents_are_refused():
    with pytest.raises(UserError, match=r'full_hard=80: accuracies and weights are fractions'):
        label_robust_score(synthetic_hard=0.5, full_hard=80, synthetic=0.6, random=0.5)
    with pytest.raises(UserError, match=r'weight=2: accuracies and weights are fractions'):
        augmentation_robust_score(synthetic=0.5, random=0.5, synthetic_plain=0.5, random_plain=0.5, weight=2)


def test_asymmetry_of_mirror_images_and_their_opposites():
    half = np.random.default_rng(0).normal(size=(3, 4, 2, 1))
    assert asymmetry(np.concatenate([half, half[..., ::-1, :]], axis=2)) == pytest.approx(0.0)
    assert asymmetry(np.concatenate([half, -half[..., ::-1, :]], axis=2)) == pytest.approx(1.0)
    assert asymmetry(np.zeros((2, 4, 4, 1))) == 0.0
