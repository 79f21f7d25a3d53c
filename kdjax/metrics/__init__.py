"""Metrics of held-out predictions, and what several seeds of them allow to say."""

from kdjax.metrics.calibration import CalibrationBins, aurc, calibration_bins, ece
from kdjax.metrics.classification import (
    Labels,
    Logits,
    accuracy,
    agreement,
    brier,
    entropy,
    kl_to_teacher,
    log_probabilities,
    nll,
)
from kdjax.metrics.paired import Interval, mean_interval, paired_interval


def classification(logits: Logits, labels: Labels, teacher_logits: Logits | None = None) -> dict[str, float]:
    """accuracy, nll, ece, brier, aurc, entropy; with a teacher also agreement and kl_to_teacher."""
    measured = {
        'accuracy': accuracy(logits, labels),
        'nll': nll(logits, labels),
        'ece': ece(logits, labels),
        'brier': brier(logits, labels),
        'aurc': aurc(logits, labels),
        'entropy': entropy(logits),
    }
    if teacher_logits is None:
        return measured
    return measured | {
        'agreement': agreement(logits, teacher_logits),
        'kl_to_teacher': kl_to_teacher(logits, teacher_logits),
    }


__all__ = [
    'CalibrationBins',
    'Interval',
    'accuracy',
    'agreement',
    'aurc',
    'brier',
    'calibration_bins',
    'classification',
    'ece',
    'entropy',
    'kl_to_teacher',
    'log_probabilities',
    'mean_interval',
    'nll',
    'paired_interval',
]
