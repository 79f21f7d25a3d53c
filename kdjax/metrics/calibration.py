"""Does a confidence of 80 % mean being right four times out of five?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from kdjax.metrics.classification import Labels, Logits, log_probabilities


@dataclasses.dataclass(frozen=True, eq=False)
class CalibrationBins:
    """A calibration diagram, one row for each bin (edges[i], edges[i + 1]] of confidence.

    count: how many examples fall into the bin; confidence, accuracy: their means, NaN where the bin is empty.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Mean |accuracy - confidence| over examples, in 0..1 (arXiv 1706.04599, eq. 3)."""
        gaps = np.abs(np.nan_to_num(self.accuracy - self.confidence))
        return float((self.count * gaps).sum() / self.count.sum())


def calibration_bins(logits: Logits, labels: Labels, *, bins: int = 15) -> CalibrationBins:
    """Examples in `bins` bins of equal width by their confidence max_c p_c (arXiv 1706.04599)."""
    return reliability(*confidences({'student': logits, 'label': labels}), bins=bins)


def reliability(confidence: np.ndarray, hit: np.ndarray, *, bins: int = 15) -> CalibrationBins:
    """The same from confidences in 0..1 and what came true, `[examples]` each."""
    hit = np.asarray(hit, np.float64)
    edges = np.arange(bins + 1) / bins
    place = np.clip(np.searchsorted(edges, confidence, side='left') - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    divisor = np.where(count > 0, count, np.nan)
    return CalibrationBins(
        edges=edges,
        count=count,
        confidence=np.bincount(place, confidence, bins) / divisor,
        accuracy=np.bincount(place, hit, bins) / divisor,
    )


def confidences(said: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and what came true, `[examples]` each, of what an algorithm evaluates on a split.

    A classifier gives logits as `student` and `label`; a language model `confidence`, `hit` and `where` of tokens.
    """
    if 'confidence' in said:
        where = np.asarray(said['where'])
        return np.asarray(said['confidence'])[where], np.asarray(said['hit'])[where]
    log_p = log_probabilities(np.asarray(said['student']))
    return np.exp(log_p.max(axis=-1)), log_p.argmax(axis=-1) == np.asarray(said['label'])


def ece(logits: Logits, labels: Labels, *, bins: int = 15) -> float:
    """Expected calibration error sum_b n_b / n |accuracy_b - confidence_b|, in 0..1 (arXiv 1706.04599)."""
    return calibration_bins(logits, labels, bins=bins).error


def aurc(logits: Logits, labels: Labels) -> float:
    """Area under the risk-coverage curve: mean over k of the error rate among the k most confident, in 0..1.

    Confidence is max_c p_c (arXiv 1805.08206). Among equally confident examples the errors are spread evenly,
    which is
    the expectation over their orders: the value depends on no sorting. A perfect ranking of e errors among n
    examples scores (1/n) sum_{i=1..e} i / (n - e + i).
    """
    log_p = log_probabilities(logits)
    error = (log_p.argmax(axis=-1) != np.asarray(labels)).astype(np.float64)
    _, group = np.unique(-log_p.max(axis=-1), return_inverse=True)
    members = np.bincount(group)
    risk = np.repeat(np.bincount(group, error) / members, members)
    return float((np.cumsum(risk) / np.arange(1, len(risk) + 1)).mean())
