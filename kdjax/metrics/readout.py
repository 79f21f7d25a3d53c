"""What frozen features are worth: a linear readout of them in closed form, in float64 on the host."""

from __future__ import annotations

from typing import Any

import numpy as np

from kdjax.errors import UserError


def linear_readout(
    features: Any, labels: Any, query: Any, *, rows: Any, classes: int, ridge: float = 1e-2
) -> np.ndarray:
    """Scores `[queries, classes]` of ridge regression from features to one-hot labels, fitted on `rows` of them.

    features `[examples, width]`: the mean and spread of all of them standardise (they need no label), a constant
    feature becomes 0. labels `[examples]`: class ids, of which those at `rows` are read. ridge: of the mean square.
    Raises UserError where there are no rows.
    """
    rows = np.asarray(rows)
    if not len(rows):
        raise UserError('a readout of no labelled examples: give rows')
    features, query = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (features, query))
    mean, spread = features.mean(0), features.std(0)
    scale = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1.0), 0.0)
    own, asked = (features[rows] - mean) * scale, (query - mean) * scale
    hit = np.eye(classes)[np.asarray(labels)[rows]]
    centre, middle = own.mean(0), hit.mean(0)
    own = own - centre
    covariance = own.T @ own / len(own) + ridge * np.eye(own.shape[1])
    weights = np.linalg.solve(covariance, own.T @ (hit - middle) / len(own))
    return (asked - centre) @ weights + middle
