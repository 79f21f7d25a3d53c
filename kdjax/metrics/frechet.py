"""The Frechet distance between two sets of features, each seen as a Gaussian."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from kdjax.metrics.feature_sets import Features, both

Mean = Float[Any, ' features']
Covariance = Float[Any, 'features features']


def frechet_distance(real: Features, made: Features) -> float:
    """|m - m'|^2 + tr(S + S' - 2 (S S')^{1/2}) of means and covariances (over n - 1), >= 0 (arXiv 1706.08500, eq. 6).

    In the squares of the features' units; 0 where both sets are the same. Biased upwards, by about 1/n
    (arXiv 1911.07023): compare sets of one size only. Raises UserError as `feature_sets.both`.
    """
    (m, s), (n, t) = (moments(rows) for rows in both(real, made))
    return gaussian_frechet(m, s, n, t)


def moments(rows: Features) -> tuple[np.ndarray, np.ndarray]:
    """Mean `[features]` and covariance `[features, features]`, divisor n - 1, in float64."""
    rows = np.asarray(rows).astype(np.float64)
    centred = rows - rows.mean(axis=0)
    return rows.mean(axis=0), centred.T @ centred / (len(rows) - 1)


def gaussian_frechet(mean: Mean, covariance: Covariance, other_mean: Mean, other_covariance: Covariance) -> float:
    """The same of two Gaussians, which is their squared 2-Wasserstein distance (Dowson & Landau, 1982).

    The trace of (S S')^{1/2} is that of the symmetric (S^{1/2} S' S^{1/2})^{1/2}: real eigenvalues, none negative but
    by rounding, and those count 0.
    """
    mean, covariance, other_mean, other_covariance = (
        np.asarray(x).astype(np.float64) for x in (mean, covariance, other_mean, other_covariance)
    )
    root = _root(covariance)
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other_covariance @ root), 0.0)).sum()
    apart = np.square(mean - other_mean).sum()
    return max(float(apart + np.trace(covariance) + np.trace(other_covariance) - 2.0 * shared), 0.0)


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
