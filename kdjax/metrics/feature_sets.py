"""Sets of features, one row an example: what every metric of samples reads, and refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from kdjax.errors import UserError

Features = Float[Any, '_ _']


def as_features(features: Features, *, called: str, least: int = 2) -> np.ndarray:
    """Float64 `[examples, features]`. Raises UserError for fewer than `least` rows, and for NaN or infinity."""
    rows = np.asarray(features).astype(np.float64)
    if len(rows) < least:
        raise UserError(f'{called}: {len(rows)} examples, but the metric needs {least}: draw more')
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=-1))
    if len(bad):
        raise UserError(
            f'{called}: example {bad[0]} is not finite ({len(bad)} such examples): the generator has diverged'
        )
    return rows


def both(real: Features, made: Features, *, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Real and generated rows. Raises UserError as `as_features`, and where their widths differ."""
    pair = as_features(real, called='real examples', least=least), as_features(made, called='generated', least=least)
    if pair[0].shape[1] != pair[1].shape[1]:
        widths = f'{pair[0].shape[1]} features of real examples, {pair[1].shape[1]} of generated ones'
        raise UserError(f'{widths}: both come from one network')
    return pair


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean, of every row of a to every row of b."""
    from scipy.spatial.distance import cdist

    return cdist(a, b)
