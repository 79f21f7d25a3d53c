"""Maximum mean discrepancy between two sets, unbiased: its expectation is 0 for samples of one distribution."""

from __future__ import annotations

import numpy as np

from kdjax.metrics.feature_sets import Features, as_features, both, distances


def mmd(real: Features, made: Features, *, bandwidth: float | int | None = None) -> float:
    """E k(x, x') + E k(y, y') - 2 E k(x, y) over pairs of different examples, k = exp(-|x - y|^2 / (2 h^2)).

    The squared discrepancy (Gretton et al., JMLR 2012, eq. 3), which may be negative. bandwidth: h; the median
    distance between the real examples unless given, so that it is one for all that are compared with them.
    Raises UserError as `feature_sets.both`.
    """
    real, made = both(real, made)
    h = median_distance(real) if bandwidth is None else bandwidth

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * np.square(distances(a, b) / h))

    return _unbiased(kernel(real, real), kernel(made, made), kernel(real, made))


def kid(real: Features, made: Features) -> float:
    """The same with the kernel (x y / width + 1)^3 (arXiv 1801.01401, sec. 4), over the whole sets at once."""
    real, made = both(real, made)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1.0) ** 3

    return _unbiased(kernel(real, real), kernel(made, made), kernel(real, made))


def median_distance(rows: Features) -> float:
    """The median over pairs of different examples."""
    rows = as_features(rows, called='examples')
    return float(np.median(distances(rows, rows)[np.triu_indices(len(rows), 1)]))


def _unbiased(own: np.ndarray, other: np.ndarray, between: np.ndarray) -> float:
    return float(_of_pairs(own) + _of_pairs(other) - 2.0 * between.mean())


def _of_pairs(kernel: np.ndarray) -> float:
    n = len(kernel)
    return float(kernel.sum() - np.trace(kernel)) / (n * (n - 1))
