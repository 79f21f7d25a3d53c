"""What is measured of pictures whose law is known exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kdjax.metrics.diversity import distance_within_classes
from kdjax.metrics.feature_sets import as_features, distances
from kdjax.metrics.known_law import energy_distance, log_density
from kdjax.tasks.worlds import World

DRAWN = 128
"""Exact samples of each condition, with which pictures are compared; the same ones always."""


def measure(world: World, said: Mapping[str, np.ndarray], reference: Any = None) -> dict[str, float]:
    """Metrics of `picture` `[rows, height, width, channels]` beside `condition` and `particle` `[rows]`.

    class_probability: p(condition | picture) among the conditions that were asked for, in 0..1, the mean.
    class_accuracy: how often it is the likeliest of them.
    log_density: log p(picture | condition) over the number of pixels, in nats, the mean.
    to_mode: root mean square distance of a pixel from the nearest mode of the condition, over the deviation of the law:
        1 like samples, below 1 too smooth, above 1 off the law; the mean. off_law: the share of pictures above 2.
    weight_error: total variation between how often each kind of mode is the nearest and its true weight, in 0..1.
    energy: energy distance to exact samples, the mean over conditions.
    norm: root mean square of the pixels over that of exact samples. saturated: the share of pixels beyond the range of
        all modes by more than two deviations. sharpness: energy of differences between neighbours over that of exact
        samples, per unit of variance.
    diversity: mean distance within a condition over that of exact samples.
    agreement: the share of views of a particle whose nearest mode is of its most frequent kind; 1 with one view.
    direction_noise: where methods say it, `algorithms.scores.noise_share` of their direction, the mean.
    """
    del reference
    made = as_features(said['picture'].reshape(len(said['picture']), -1), called='pictures')
    condition, asked = np.asarray(said['condition']), np.unique(said['condition'])
    nearest, apart = _nearest(world, made, condition)
    kinds = world.kind[nearest]
    likely = np.stack([log_density(made, world.means, world.deviations, world.weights[c]) for c in asked], axis=1)
    place = np.searchsorted(asked, condition)
    posterior = np.exp(likely - likely.max(1, keepdims=True))
    posterior /= posterior.sum(1, keepdims=True)
    rows = np.arange(len(made))
    exact = {c: world.draw(int(c), DRAWN) for c in asked}
    drawn = np.concatenate(list(exact.values()))
    found = np.bincount(kinds, minlength=len(world.shares)) / len(kinds)
    low, high = (f(world.means[world.of(int(asked[0]))]) for f in (np.min, np.max))
    margin = 2 * world.deviations[nearest].mean()
    noise = {n: float(np.mean(said[n])) for n in ('direction_noise',) if n in said}
    return noise | {
        'class_probability': float(posterior[rows, place].mean()),
        'class_accuracy': float((posterior.argmax(1) == place).mean()),
        'log_density': float(likely[rows, place].mean() / made.shape[1]),
        'to_mode': float(apart.mean()),
        'off_law': float((apart > 2).mean()),
        'weight_error': float(0.5 * np.abs(found - world.shares).sum()),
        'energy': float(np.mean([energy_distance(exact[c], made[condition == c]) for c in asked])),
        'norm': _rms(made) / _rms(drawn),
        'saturated': float(((made < low - margin) | (made > high + margin)).mean()),
        'sharpness': _sharpness(made, world.shape) / _sharpness(drawn, world.shape),
        'diversity': distance_within_classes(made, condition) / distance_within_classes(drawn, np.repeat(asked, DRAWN)),
        'agreement': _agreement(kinds, said),
    }


def _nearest(world: World, made: np.ndarray, condition: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest component of each picture's condition, and how far it is, in deviations a pixel."""
    apart = distances(made, world.means)
    own = np.where(world.weights[condition] > 0, apart, np.inf)
    nearest = own.argmin(1)
    return nearest, own.min(1) / np.sqrt(made.shape[1]) / world.deviations[nearest]


def _rms(rows: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(rows))))


def _sharpness(rows: np.ndarray, shape: tuple[int, int, int]) -> float:
    pictures = rows.reshape(-1, *shape)
    steps = (np.square(np.diff(pictures, axis=axis)).mean() for axis in (1, 2))
    return float(sum(steps) / max(pictures.var(), 1e-12))


def _agreement(kinds: np.ndarray, said: Mapping[str, np.ndarray]) -> float:
    """Rows of a particle are those of one `label`, unless views are what the prior is told."""
    scene = np.asarray(said['particle'])
    label = np.asarray(said['label']) if 'label' in said else np.zeros_like(scene)
    shares = []
    for one in sorted(set(zip(label.tolist(), scene.tolist(), strict=True))):
        seen = kinds[(label == one[0]) & (scene == one[1])]
        shares.append(np.bincount(seen).max() / len(seen))
    return float(np.mean(shares))
