"""Divergences between samples in the plane and a law whose probability of every cell of a grid is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from kdjax.errors import UserError
from kdjax.metrics.feature_sets import as_features

FLOOR = 1e-12
"""The least probability of a cell: a sample where the law has none costs 28 nats, not infinity."""


def histogram_divergences(
    made: Float[Any, 'examples 2'],
    cells: Float[Any, 'columns rows'],
    *,
    low: tuple[float | int, float | int],
    high: tuple[float | int, float | int],
) -> dict[str, float]:
    """Of n samples, counted in the cells of a grid from `low` to `high`; all that is outside is one cell more.

    cells: the true probability of each. Each divergence is that of the two laws on cells: it sees nothing inside a
    cell, and is at most that of the densities.

    kl_to_data: KL(samples || law) in nats, by the shares of the samples, minus their bias (occupied cells - 1) / (2 n)
        (Miller, 1955): about 0 for samples of the law itself, and rarely below.
    kl_from_data: KL(law || samples), the samples' shares with half a sample more in every cell (Krichevsky &
        Trofimov, 1981): biased upwards, by about (cells with mass) / (2 n), and larger where modes are missing.
    total_variation: in 0..1, biased upwards likewise.

    Raises UserError for probabilities that add up to more than 1.
    """
    made, cells = as_features(made, called='generated', least=1), np.asarray(cells, np.float64)
    outside = 1.0 - cells.sum()
    if outside < -1e-6 or cells.min() < 0:
        raise UserError(f'probabilities of cells add up to {cells.sum():g}, the least is {cells.min():g}: not a law')
    sides = [np.linspace(a, b, size + 1) for a, b, size in zip(low, high, cells.shape, strict=True)]
    counts, _, _ = np.histogram2d(made[:, 0], made[:, 1], bins=sides)
    counts = np.append(counts.ravel(), len(made) - counts.sum())
    law = np.append(cells.ravel(), max(outside, 0.0))
    law = np.maximum(law, FLOOR) / np.maximum(law, FLOOR).sum()
    shares, smooth = counts / len(made), (counts + 0.5) / (len(made) + 0.5 * len(counts))
    seen = counts > 0
    to_data = (shares[seen] * np.log(shares[seen] / law[seen])).sum() - (seen.sum() - 1) / (2 * len(made))
    return {
        'kl_to_data': float(to_data),
        'kl_from_data': float((law * np.log(law / smooth)).sum()),
        'total_variation': float(0.5 * np.abs(shares - law).sum()),
    }
