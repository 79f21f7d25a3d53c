"""The interval behind every verdict: Student's t, against scipy and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from kdjax.errors import UserError
from kdjax.metrics import mean_interval, paired_interval


@pytest.mark.parametrize('confidence', [0.9, 0.95, 0.99])
@pytest.mark.parametrize('n', [2, 5, 30])
def test_agrees_with_the_paired_t_test_of_scipy(n, confidence):
    rng = np.random.default_rng(n)
    arm, baseline = rng.normal(0.3, 1, n), rng.normal(0, 1, n)
    expected = stats.ttest_rel(arm, baseline).confidence_interval(confidence)
    found = paired_interval(arm - baseline, confidence)
    assert found.mean == pytest.approx((arm - baseline).mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_five_values_by_hand():
    # mean 3, s = sqrt(2.5), t_{.975, 4} = 2.776445
    found = mean_interval([1, 2, 3, 4, 5])
    half = 2.7764451 * math.sqrt(2.5) / math.sqrt(5)
    assert found == pytest.approx((3, 3 - half, 3 + half))


def test_covers_the_truth_95_times_out_of_100_at_five_seeds():
    rng = np.random.default_rng(0)
    found = [paired_interval(row) for row in rng.normal(0.2, 1, (4000, 5))]
    covered = np.mean([interval.low <= 0.2 <= interval.high for interval in found])
    assert abs(covered - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 4000)


def test_one_run_says_nothing_about_spread():
    assert mean_interval([0.7]) == (0.7, -math.inf, math.inf)


@pytest.mark.parametrize('value', [0.0, 0.1, -2.5])
def test_equal_differences_have_an_interval_of_no_width(value):
    assert paired_interval([value] * 5) == (value, value, value)


def test_shifts_and_scales_with_the_values():
    values = np.array([0.1, 0.4, 0.2])
    base, moved = mean_interval(values), mean_interval(10 * values + 1)
    assert moved == pytest.approx([10 * end + 1 for end in base])


@pytest.mark.parametrize(
    ('values', 'confidence', 'message'),
    [
        ([], 0.95, 'at least one value'),
        ([1.0, math.nan], 0.95, 'finite values, not .*nan.*diverged'),
        ([1.0, 2.0], 95.0, 'confidence=95.0 must lie between 0 and 1'),
    ],
)
def test_bad_input_is_named(values, confidence, message):
    with pytest.raises(UserError, match=message):
        mean_interval(values, confidence)
