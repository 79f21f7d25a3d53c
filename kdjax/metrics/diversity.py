"""How much samples differ from one another."""

from __future__ import annotations

import numpy as np

from kdjax.metrics.classification import Labels
from kdjax.metrics.feature_sets import Features, as_features, distances


def distance_within_classes(features: Features, labels: Labels) -> float:
    """The mean Euclidean distance over all pairs of different examples of one class, in units of the features.

    NaN where no class has two examples. Raises UserError as `feature_sets.as_features`.
    """
    rows, labels = as_features(features, called='generated'), np.asarray(labels)
    total, pairs = 0.0, 0
    for label in np.unique(labels):
        members = rows[labels == label]
        total += distances(members, members).sum() / 2
        pairs += len(members) * (len(members) - 1) // 2
    return total / pairs if pairs else float('nan')


def vendi_score(features: Features) -> float:
    """exp of the entropy of the eigenvalues of K / n, K the cosines between examples (arXiv 2210.02410, def. 3.1).

    The effective number of different examples, from 1 (all in one direction) to n or the width, whichever is less.
    Raises UserError as `feature_sets.as_features`.
    """
    rows = as_features(features, called='generated', least=1)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    gram = rows.T @ rows if rows.shape[1] < len(rows) else rows @ rows.T
    shares = np.maximum(np.linalg.eigvalsh(gram / len(rows)), 0.0)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
