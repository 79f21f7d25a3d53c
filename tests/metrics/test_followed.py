"""What is measured of a follower, where the law of the samples is a known Gaussian."""

import numpy as np
import pytest

from kdjax.errors import UserError
from kdjax.metrics.followed import expected_of_samples, follower_metrics

RNG = np.random.default_rng(0)
MEAN, DEVIATION = np.array([0.5, -0.2]), 0.8
SAMPLES = MEAN + DEVIATION * RNG.standard_normal((4000, 2))
ALPHA, SIGMA = np.full(300, 0.9), np.full(300, 0.6)
NOISED = ALPHA[:, None] * SAMPLES[:300] + SIGMA[:, None] * RNG.standard_normal((300, 2))


def exact(deviation=DEVIATION):
    gain = 0.9 * deviation**2 / ((0.9 * deviation) ** 2 + 0.6**2)
    return MEAN + gain * (NOISED - 0.9 * MEAN)


def test_samples_tell_what_their_law_expects():
    """4000 samples: a tenth of them within one deviation of the noise, so an error of some per cent."""
    found = expected_of_samples(NOISED, ALPHA, SIGMA, SAMPLES)
    assert np.sqrt(np.mean((found - exact()) ** 2)) < 0.05
    own = expected_of_samples(NOISED[:2], ALPHA[:2], 1e-3 * SIGMA[:2], SAMPLES)
    assert (np.linalg.norm(own - SAMPLES[:2], axis=1) > 0).all()  # a row is left out of its own mean


def test_an_exact_follower_points_where_the_truth_does():
    real, ratio = exact(1.3), SIGMA / ALPHA
    right = follower_metrics(exact(), exact(), real, ratio)
    assert right['fake_error'] == 0.0 and right['direction_cosine'] == pytest.approx(1.0)
    assert right['gap_to_teacher'] == pytest.approx(np.sqrt(np.mean(((exact() - real) / ratio[:, None]) ** 2)))
    assert follower_metrics(exact(), real, real, ratio)['direction_cosine'] == 0.0
    assert follower_metrics(exact(), 2 * real - exact(), real, ratio)['direction_cosine'] == pytest.approx(-1.0)


def test_fewer_samples_than_rows_are_refused():
    with pytest.raises(UserError, match='300 noised rows of 10 samples: row i is made of sample i'):
        expected_of_samples(NOISED, ALPHA, SIGMA, SAMPLES[:10])
