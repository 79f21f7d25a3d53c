"""Which modes of a known mixture samples fall into, and how often."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from kdjax.metrics.feature_sets import Features, as_features, distances


def mode_weights(
    made: Features,
    centres: Float[Any, 'components dims'],
    mode: Integer[Any, ' components'],
    *,
    reach: float | int,
) -> np.ndarray:
    """The share of the samples in each mode, float64 `[modes]`; what is missing from 1 lies in none.

    A sample is in the mode of the component whose centre is nearest, if that is at most `reach` away: three deviations
    of a component, say. mode: to which mode each component belongs, 0, 1, ...
    """
    made = as_features(made, called='generated', least=1)
    apart, mode = distances(made, np.asarray(centres, np.float64)), np.asarray(mode)
    inside = apart.min(axis=1) <= reach
    found = np.bincount(mode[apart.argmin(axis=1)][inside], minlength=mode.max() + 1)
    return found / len(made)


def mode_metrics(found: Float[Any, ' modes'], truth: Float[Any, ' modes'], *, least: float = 0.1) -> dict[str, float]:
    """Of the shares found and the true weights of the modes:

    modes: how many hold at least `least` of their true weight.
    in_modes: the share of samples in any mode, in 0..1.
    weight_error: half of sum |found - truth|, both normalised over the modes: total variation, in 0..1; 1 if no
        sample is in a mode.
    """
    found, truth = np.asarray(found, np.float64), np.asarray(truth, np.float64)
    inside = found.sum()
    error = 0.5 * np.abs(found / inside - truth / truth.sum()).sum() if inside else 1.0
    return {'modes': float((found >= least * truth).sum()), 'in_modes': float(inside), 'weight_error': float(error)}
