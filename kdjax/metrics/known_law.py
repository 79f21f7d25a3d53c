"""How samples lie in a mixture of round Gaussians that is known: which mode, how near, how likely, how often."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from kdjax.metrics.feature_sets import Features, as_features, distances


def log_density(
    made: Features,
    means: Float[Any, 'components dims'],
    deviations: Float[Any, ' components'],
    weights: Float[Any, ' components'],
) -> np.ndarray:
    """log p of each sample, in nats, `[examples]`. weights: adding up to 1; components of weight 0 are left out."""
    made = as_features(made, called='generated', least=1)
    some = np.asarray(weights) > 0
    spread = np.square(deviations[some])
    joint = (
        np.log(weights[some])[None]
        - 0.5 * np.square(distances(made, means[some])) / spread[None]
        - 0.5 * made.shape[1] * np.log(2 * math.pi * spread)[None]
    )
    highest = joint.max(axis=1, keepdims=True)
    return highest[:, 0] + np.log(np.exp(joint - highest).sum(axis=1))


def energy_distance(real: Features, made: Features) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| over pairs of different examples: 0 for one distribution, unbiased.

    Source: Szekely and Rizzo, Energy statistics, 2013.
    """
    real, made = as_features(real, called='real examples'), as_features(made, called='generated')
    return float(2 * distances(real, made).mean() - _within(real) - _within(made))


def _within(rows: np.ndarray) -> float:
    return float(distances(rows, rows).sum() / (len(rows) * (len(rows) - 1)))
