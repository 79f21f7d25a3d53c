"""Scores of condensed sets that separate the set from its labels and its augmentation. Host functions of accuracies."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from kdjax.errors import UserError

Fraction = float | int


def label_robust_score(
    *, synthetic_hard: Fraction, full_hard: Fraction, synthetic: Fraction, random: Fraction, weight: Fraction = 0.5
) -> float:
    """LRS: how near hard labels come to the full data, and how far any recipe takes the set past random images.

        (e^a - e^-1) / (e - e^-1),   a = weight * (synthetic - random) - (1 - weight) * (full_hard - synthetic_hard)

    synthetic_hard, full_hard: accuracies with hard labels of the set and of all data; synthetic, random: of the set and
    of as many random images under one recipe, that with soft labels say. All in 0..1: DD-Ranking's code takes per
    cent, and so leaves the range. In [0, 1]; 0.27 where a set is as good as random images and as all data.
    Raises UserError on an accuracy or weight outside 0..1.
    Source: DD-Ranking, arXiv 2505.13300, equations 1-3.
    """
    _check({'synthetic_hard': synthetic_hard, 'full_hard': full_hard, 'synthetic': synthetic, 'random': random})
    _check({'weight': weight})
    return _scaled(weight * (synthetic - random) - (1 - weight) * (full_hard - synthetic_hard))


def augmentation_robust_score(
    *, synthetic: Fraction, random: Fraction, synthetic_plain: Fraction, random_plain: Fraction, weight: Fraction = 0.5
) -> float:
    """ARS: how far the set is past random images with the augmentation of its recipe, and without.

        (e^b - e^-1) / (e - e^-1),   b = weight * (synthetic - random) + (1 - weight) * (synthetic_plain - random_plain)

    All accuracies in 0..1. In [0, 1]; 0.27 where a set is as good as random images. The released code reports the two
    differences; they are put on the scale of LRS here.
    Raises UserError on an accuracy or weight outside 0..1. Source: DD-Ranking, arXiv 2505.13300.
    """
    given = {'synthetic': synthetic, 'random': random, 'synthetic_plain': synthetic_plain, 'random_plain': random_plain}
    _check(given)
    _check({'weight': weight})
    return _scaled(weight * (synthetic - random) + (1 - weight) * (synthetic_plain - random_plain))


def asymmetry(images: np.ndarray) -> float:
    """The root mean square of half the difference of images `[..., H, W, C]` and their mirror images, over that of all.

    In [0, 1]: 0 where every image is its own mirror image, 1 where each is the negative of it; 0 of nothing.
    """
    images = np.asarray(images, np.float64)
    centred = images - images.mean()
    whole = math.sqrt(np.square(centred).mean())
    odd = math.sqrt(np.square((centred - centred[..., ::-1, :]) / 2).mean())
    return odd / whole if whole > 0 else 0.0


def _scaled(a: float) -> float:
    return (math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1))


def _check(fractions: Mapping[str, Fraction]) -> None:
    for name, value in fractions.items():
        if not 0 <= value <= 1:
            raise UserError(f'{name}={value}: accuracies and weights are fractions in 0..1, not per cent')
