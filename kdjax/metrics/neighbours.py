"""Fidelity and variety of samples from balls around examples, each as large as the distance to its k-th neighbour."""

from __future__ import annotations

import numpy as np

from kdjax.metrics.feature_sets import Features, both, distances


def neighbourhoods(real: Features, made: Features, *, k: int = 5) -> dict[str, float]:
    """Four metrics of closed balls that reach from an example to its k-th nearest other of the same set.

    precision: how many generated examples lie in a ball of a real one, in 0..1; recall: how many real ones lie in a
        ball of a generated one (arXiv 1904.06991, eq. 1, with k = 3 there).
    density: in how many balls of real examples a generated one lies, divided by k: 1 is expected of the truth, more is
        possible; coverage: how many balls of real examples hold a generated one, in 0..1 (arXiv 2002.09797, eqs. 3
        and 4, k = 5).

    Of two halves of one set coverage is 1 - 2^-k in the limit, not 1. Raises UserError as `feature_sets.both`.
    """
    real, made = both(real, made, least=k + 1)
    apart = distances(real, made)
    around_real, around_made = _radii(real, k), _radii(made, k)
    within = apart <= around_real[:, None]
    return {
        'precision': float(within.any(axis=0).mean()),
        'recall': float((apart <= around_made[None, :]).any(axis=1).mean()),
        'density': float(within.sum(axis=0).mean() / k),
        'coverage': float(within.any(axis=1).mean()),
    }


def _radii(rows: np.ndarray, k: int) -> np.ndarray:
    """The row itself is at distance 0 and comes first."""
    return np.partition(distances(rows, rows), k, axis=1)[:, k]
