"""Worlds of pictures whose law is known exactly: mixtures whose modes are made of real handwritten digits.

Pixels are scaled to mean 0 and variance 1 over all modes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from kdjax.data import load
from kdjax.data.dataset import ArraySource
from kdjax.diffusion.round import RoundMixture, round_mixture
from kdjax.errors import UserError

SHARES = (0.6, 0.3, 0.1)
"""Weights of the styles of a class, the most frequent first."""

PANORAMAS = (0.3, 0.25, 0.2, 0.1, 0.1, 0.05)
"""Weights of the panoramas."""

ROUNDS = 20
"""Of Lloyd's algorithm, which has settled before."""


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """A law of pictures given a condition, in numbers.

    means: `[components, dim]`, float64. deviations: `[components]`. weights: `[conditions, components]`, rows are laws.
    kind: `[components]`, what is common to components of different conditions: a style, a panorama. shares: `[kinds]`,
    its true weights in every condition below `classes`. shape: (height, width, channels) of a picture.
    classes: conditions that are asked for. Row `classes` is the null condition; `negative` is one of bad pictures.
    mean, deviation: of pixels in 0..1 before they were scaled.
    """

    means: np.ndarray
    deviations: np.ndarray
    weights: np.ndarray
    kind: np.ndarray
    shares: np.ndarray
    shape: tuple[int, int, int]
    classes: int
    mean: float
    deviation: float
    negative: int | None = None

    def law(self) -> RoundMixture:
        """For networks and solvers."""
        return round_mixture(self.means, self.deviations, self.weights)

    def of(self, condition: int) -> np.ndarray:
        """The components of a condition."""
        return np.flatnonzero(self.weights[condition])

    def draw(self, condition: int, count: int, seed: int = 0) -> Float[Any, 'count dim']:
        """Exact samples."""
        random = np.random.default_rng((seed, condition))
        chosen = random.choice(len(self.means), size=count, p=self.weights[condition])
        noise = random.standard_normal((count, self.means.shape[1]))
        return self.means[chosen] + self.deviations[chosen][:, None] * noise


@functools.cache
def digits_by_style(*, deviation: float = 0.15, negative_deviation: float = 0.7) -> World:
    """Ten classes of 8x8 digits with three real digits each as modes, of weights .6, .3 and .1.

    The modes are the training digits nearest to the centres that Lloyd's algorithm finds in their class. The negative
    condition (for NFSD) has the same modes, `negative_deviation` wide.
    """
    pictures, labels, shape = _digits()
    modes = np.stack([mode for label in range(10) for mode in _styles(pictures[labels == label], len(SHARES))])
    scaled, mean, spread = _scaled(modes)
    classes, styles = 10, len(SHARES)
    weights = np.zeros((classes + 2, 2 * len(modes)))
    for label in range(classes):
        weights[label, label * styles : (label + 1) * styles] = SHARES
    weights[classes] = weights[:classes].mean(0)
    weights[classes + 1, len(modes) :] = weights[classes, : len(modes)]
    return World(
        np.concatenate([scaled, scaled]), np.repeat([deviation, negative_deviation], len(modes)), weights,
        np.tile(np.arange(styles), 2 * classes), np.asarray(SHARES), shape, classes, mean, spread, classes + 1,
    )  # fmt: skip


@functools.cache
def styled_digits(*, deviation: float = 0.15, strength: float = 2.0) -> World:
    """The mean of each class plus one of three styles that all classes share: an edit has one right answer.

    A style is nothing, or `strength` deviations along the first or the second principal axis within classes.
    """
    pictures, labels, shape = _digits()
    centres = np.stack([pictures[labels == label].mean(0) for label in range(10)])
    _, sizes, axes = np.linalg.svd(pictures - centres[labels], full_matrices=False)
    axes = axes[:2] * np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])[:, None]
    offsets = strength / np.sqrt(len(pictures)) * sizes[:2, None] * axes
    styles = np.concatenate([np.zeros_like(offsets[:1]), offsets])
    modes = (centres[:, None] + styles[None]).reshape(-1, centres.shape[1])
    scaled, mean, spread = _scaled(modes)
    weights = np.kron(np.eye(10), np.asarray(SHARES)[None])
    weights = np.concatenate([weights, weights.mean(0, keepdims=True)])
    return World(
        scaled, np.full(len(modes), deviation), weights, np.tile(np.arange(3), 10), np.asarray(SHARES), shape, 10,
        mean, spread,
    )  # fmt: skip


@functools.cache
def panoramas(*, width: int = 24, deviation: float = 0.15) -> World:
    """Views of periodic panoramas of 8x32 pixels, four digits each; a condition is the column where a view begins.

    width: of a view, in columns. All six panoramas are possible from everywhere.
    Raises UserError on a width outside 1..32.
    """
    if not 1 <= width <= 32:
        raise UserError(f'views of {width} columns of a panorama of 32: choose from 1 to 32')
    digits = digits_by_style()
    main = digits.means[: 10 * len(SHARES) : len(SHARES)].reshape(10, *digits.shape)
    whole = np.stack([np.concatenate([main[(k + 3 * i) % 10] for i in range(4)], axis=1) for k in range(6)])
    views = np.stack([np.roll(whole, -start, axis=2)[:, :, :width] for start in range(32)])
    count = len(PANORAMAS)
    weights = np.kron(np.eye(32), np.asarray(PANORAMAS)[None])
    weights = np.concatenate([weights, weights.mean(0, keepdims=True)])
    return World(
        views.reshape(32 * count, -1), np.full(32 * count, deviation), weights, np.tile(np.arange(count), 32),
        np.asarray(PANORAMAS), (8, width, 1), 32, digits.mean, digits.deviation,
    )  # fmt: skip


def _digits() -> tuple[Float[Any, 'pictures dim'], Int[Any, ' pictures'], tuple[int, int, int]]:
    """The training digits of 8x8 pixels, in float64."""
    found = load('digits')
    source = found['train']
    columns = source if isinstance(source, ArraySource) else source.take(np.arange(len(source)))
    pictures = np.asarray(columns['image'], np.float64).reshape(len(source), -1)
    return pictures, np.asarray(columns['label']), found.image_shape


def _styles(pictures: Float[Any, 'pictures dim'], count: int) -> Float[Any, '{count} dim']:
    """Pictures nearest to the centres of clusters, that of the largest cluster first."""
    centres = pictures[:1]
    while len(centres) < count:  # farthest first
        centres = np.concatenate([centres, pictures[_squares(pictures, centres).min(1).argmax()][None]])
    for _ in range(ROUNDS):
        nearest = _squares(pictures, centres).argmin(1)
        centres = np.stack([pictures[nearest == k].mean(0) for k in range(count)])
    order = np.argsort(-np.bincount(_squares(pictures, centres).argmin(1), minlength=count), kind='stable')
    return pictures[_squares(pictures, centres).argmin(0)][order]


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.square(a[:, None] - b[None]).sum(-1)


def _scaled(modes: np.ndarray) -> tuple[np.ndarray, float, float]:
    mean, spread = float(modes.mean()), float(modes.std())
    return (modes - mean) / spread, mean, spread
