"""Student-t intervals over seeds: what five paired runs can and cannot say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, SupportsFloat

import numpy as np

from kdjax.errors import UserError


class Interval(NamedTuple):
    """A mean with its two-sided confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[SupportsFloat] | np.ndarray, confidence: float = 0.95) -> Interval:
    """mean +- t_{(1 + confidence) / 2, n - 1} s / sqrt(n), s the sample deviation (divisor n - 1).

    One value says nothing about its spread: the interval is (-inf, inf). Equal values give an interval of no
    width, which is what the formula says; with a metric of few steps (accuracy on few examples) it claims too
    much.
    Raises `UserError` for no values, for NaN or infinity, and for a confidence outside (0, 1).
    """
    from scipy.special import stdtrit

    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise UserError(f'an interval needs a list of at least one value, not shape {list(values.shape)}')
    if not np.isfinite(values).all():
        raise UserError(f'an interval needs finite values, not {values.tolist()}: a run has diverged')
    if not 0 < confidence < 1:
        raise UserError(f'confidence={confidence} must lie between 0 and 1, e.g. 0.95')
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, -math.inf, math.inf)
    if np.ptp(values) == 0:
        return Interval(float(values[0]), float(values[0]), float(values[0]))
    quantile = float(stdtrit(len(values) - 1, (1 + confidence) / 2))
    half = quantile * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def paired_interval(differences: Sequence[SupportsFloat] | np.ndarray, confidence: float = 0.95) -> Interval:
    """`mean_interval` of the differences (arm - baseline) at equal seed, as in the paired t-test."""
    return mean_interval(differences, confidence)
