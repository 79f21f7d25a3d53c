"""A linear readout is ridge regression on standardised features."""

import numpy as np
import pytest

from kdjax.errors import UserError
from kdjax.metrics.readout import linear_readout


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(30) % 3
    features = rng.normal(size=(30, 4))
    features[:, :2] += 8 * np.eye(3)[labels][:, :2]
    return features, labels


def test_separate_classes_are_told_apart_whatever_the_units():
    features, labels = drawn()
    rows = np.arange(9)
    scores = linear_readout(features, labels, features, rows=rows, classes=3)
    assert scores.shape == (30, 3) and (scores.argmax(1) == labels).all()
    np.testing.assert_allclose(scores.sum(1), 1.0)
    other = features * [10.0, 0.1, 3.0, 1.0] + [5.0, -3.0, 0.0, 1.0]
    np.testing.assert_allclose(linear_readout(other, labels, other, rows=rows, classes=3), scores, atol=1e-9)


def test_without_a_ridge_it_is_least_squares_with_a_constant():
    features, labels = drawn()
    design = np.concatenate([features, np.ones((30, 1))], axis=1)
    weights = np.linalg.lstsq(design, np.eye(3)[labels], rcond=None)[0]
    scores = linear_readout(features, labels, features, rows=np.arange(30), classes=3, ridge=0.0)
    np.testing.assert_allclose(scores, design @ weights, atol=1e-9)


def test_a_constant_feature_says_nothing():
    features, labels = drawn()
    more = np.concatenate([features, np.full((30, 1), 7.0)], axis=1)
    found = [linear_readout(f, labels, f, rows=np.arange(12), classes=3) for f in (features, more)]
    np.testing.assert_allclose(*found, atol=1e-12)


def test_a_readout_of_nothing():
    with pytest.raises(UserError, match='a readout of no labelled examples'):
        linear_readout(*drawn(), np.zeros((1, 4)), rows=[], classes=3)
