"""Points in the plane whose law is known exactly: rings, moons and checkerboards, all of round Gaussians."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from kdjax.data.dataset import SPLITS, ArraySource, Dataset, Origin
from kdjax.errors import UserError, unknown

Law = tuple[np.ndarray, np.ndarray, float]
"""Means `[components, 2]`, the mode of each, and the deviation of all; components of a mode have equal weights."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Mixtures(Dataset):
    """Points drawn from sum_k weights_k N(means_k, deviation^2). Columns: `point` `[rows, 2]` float32, `label` int32.

    means: `[components, 2]`. weights: `[components]`, adding up to 1. mode: `[components]`, the mode that each belongs
    to, which is the label of its points. extent: the grid of `cells` reaches from -extent to extent on both axes.
    """

    means: np.ndarray
    weights: np.ndarray
    mode: np.ndarray
    deviation: float
    extent: float

    @property
    def classes(self) -> int:
        return int(self.mode.max()) + 1

    @property
    def mode_weights(self) -> np.ndarray:
        """The true share of each mode, `[classes]`."""
        return np.bincount(self.mode, self.weights)

    @property
    def spread(self) -> float:
        """The standard deviation of one coordinate, averaged over both as a variance; the mean is 0."""
        centred = self.means - self.weights @ self.means
        return float(np.sqrt(0.5 * self.weights @ np.square(centred).sum(axis=1) + self.deviation**2))

    def log_density(self, points: Float[Any, 'rows 2']) -> Float[Any, ' rows']:
        """log p, in nats, in float64."""
        apart = np.square(np.asarray(points, np.float64)[:, None] - self.means[None]).sum(axis=-1)
        each = np.log(self.weights)[None] - apart / (2 * self.deviation**2)
        highest = each.max(axis=1, keepdims=True)
        total = highest[:, 0] + np.log(np.exp(each - highest).sum(axis=1))
        return total - np.log(2 * np.pi * self.deviation**2)

    def cells(self, bins: int) -> Float[Any, 'columns rows']:
        """The probability of every cell of a grid of bins x bins, exactly: products of normal intervals."""
        from scipy.special import ndtr

        sides = np.linspace(-self.extent, self.extent, bins + 1)
        below = ndtr((sides[None] - self.means.T[:, :, None]) / self.deviation)
        across, along = np.diff(below, axis=-1)
        return np.einsum('k,kx,ky->xy', self.weights, across, along)


@functools.cache
def mixtures(name: str, *, rows: int = 20_000, evaluation_rows: int = 8_000, tilt: float | int = 1) -> Mixtures:
    """Draw a data set: `ring8`, `moons` or `checkerboard`.

    tilt: the last mode weighs this many times the first, those between in a geometric row; 1 makes all equal.
    Raises UserError for an unknown name, sizes below 1 and a tilt that is not positive.
    """
    if name not in LAWS:
        raise unknown('mixture', name, LAWS)
    if min(rows, evaluation_rows) < 1 or tilt <= 0:
        raise UserError(f'{rows} rows, {evaluation_rows} held out, tilt={tilt}: all are positive')
    means, mode, deviation = LAWS[name]()
    share = tilt ** np.linspace(0, 1, mode.max() + 1)
    weights = share[mode] / np.bincount(mode)[mode]
    weights = weights / weights.sum()
    draw = np.random.default_rng(20_240_229)
    sizes = rows, evaluation_rows, evaluation_rows
    splits = {s: _drawn(means, weights, mode, deviation, n, draw) for s, n in zip(SPLITS, sizes, strict=True)}
    digest = hashlib.sha256(b''.join(source['point'].tobytes() for source in splits.values()))
    return Mixtures(
        name=name, splits=splits, identity=digest.hexdigest(), means=means, weights=weights, mode=mode,
        deviation=deviation, extent=float(np.abs(means).max() + 6 * deviation),
        origin=Origin('drawn at random', 'none', f'{sum(sizes)} points'),
    )  # fmt: skip


def ring(modes: int = 8, *, radius: float = 1.0, deviation: float = 0.08) -> Law:
    """One Gaussian for each mode, evenly spaced on a circle."""
    angle = 2 * np.pi * np.arange(modes) / modes
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1), np.arange(modes), deviation


def moons(*, along: int = 32, deviation: float = 0.08) -> Law:
    """Two half circles of radius 0.8 that reach into one another, each a row of Gaussians half a deviation apart."""
    angle = np.pi * (np.arange(along) + 0.5) / along
    upper = 0.8 * np.stack([np.cos(angle), np.sin(angle)], axis=-1) + np.array([-0.4, -0.2])
    return np.concatenate([upper, -upper]), np.repeat(np.arange(2), along), deviation


def checkerboard(*, across: int = 6, deviation: float = 0.05) -> Law:
    """The eight dark squares of a board of 4 x 4, side 0.5; in each a grid of Gaussians, 5/3 deviations apart."""
    dark = [(x, y) for x, y in itertools.product(range(4), range(4)) if (x + y) % 2 == 0]
    inside = 0.5 * (np.arange(across) + 0.5) / across
    offsets = np.stack(np.meshgrid(inside, inside, indexing='ij'), axis=-1).reshape(-1, 2)
    corners = 0.5 * np.array(dark) - 1.0
    return (corners[:, None] + offsets[None]).reshape(-1, 2), np.repeat(np.arange(8), across**2), deviation


LAWS: dict[str, Callable[[], Law]] = {'ring8': ring, 'moons': moons, 'checkerboard': checkerboard}


def _drawn(
    means: np.ndarray, weights: np.ndarray, mode: Int[Any, ' components'], deviation: float, rows: int, draw: Any
) -> ArraySource:
    component = draw.choice(len(means), size=rows, p=weights)
    points = means[component] + deviation * draw.standard_normal((rows, 2))
    return ArraySource({'point': points.astype(np.float32), 'label': mode[component].astype(np.int32)})
