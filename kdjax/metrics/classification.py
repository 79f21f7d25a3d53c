"""How good and how faithful: metrics of logits on a whole held-out split, in float64 on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from kdjax.errors import UserError

Logits = Float[Any, 'examples classes']
Labels = Integer[Any, ' examples']


def log_probabilities(logits: Logits) -> np.ndarray:
    """log softmax in float64, [examples, classes]; -inf rules a class out, NaN and +inf are errors."""
    logits = np.asarray(logits).astype(np.float64)
    if logits.size == 0:
        raise UserError(f'metrics of no examples: logits have shape {list(logits.shape)}')
    highest = logits.max(axis=-1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(highest))
    if len(bad):
        raise UserError(
            f'logits of example {bad[0]} are not finite ({len(bad)} such examples): the model has diverged'
        )
    shifted = logits - highest
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def accuracy(logits: Logits, labels: Labels) -> float:
    """mean 1[argmax z = y], in 0..1. Of equal logits the first class counts."""
    return float(np.mean(log_probabilities(logits).argmax(axis=-1) == np.asarray(labels)))


def nll(logits: Logits, labels: Labels) -> float:
    """mean -log p(y), in nats, >= 0."""
    chosen = np.take_along_axis(log_probabilities(logits), np.asarray(labels)[:, None], axis=-1)
    return float(-chosen.mean())


def brier(logits: Logits, labels: Labels) -> float:
    """mean sum_c (p_c - 1[c = y])^2, in 0..2 (Brier, 1950, the multi-class form)."""
    probabilities = np.exp(log_probabilities(logits))
    hits = np.arange(probabilities.shape[-1])[None, :] == np.asarray(labels)[:, None]
    return float(((probabilities - hits) ** 2).sum(axis=-1).mean())


def entropy(logits: Logits) -> float:
    """mean -sum_c p_c log p_c, in nats, 0..log(classes)."""
    log_p = log_probabilities(logits)
    return float(-_expectation(log_p, log_p).mean())


def agreement(student_logits: Logits, teacher_logits: Logits) -> float:
    """mean 1[argmax student = argmax teacher], in 0..1, right or wrong (arXiv 2106.05945)."""
    student, teacher = log_probabilities(student_logits), log_probabilities(teacher_logits)
    return float(np.mean(student.argmax(axis=-1) == teacher.argmax(axis=-1)))


def kl_to_teacher(student_logits: Logits, teacher_logits: Logits) -> float:
    """mean KL(teacher || student) at temperature 1, in nats, >= 0."""
    student, teacher = log_probabilities(student_logits), log_probabilities(teacher_logits)
    return float((_expectation(teacher, teacher) - _expectation(teacher, student)).mean())


def _expectation(log_p: np.ndarray, values: np.ndarray) -> np.ndarray:
    """sum_c p_c v_c, where p_c = 0 adds 0 whatever the value."""
    possible = log_p > -np.inf
    return np.sum(np.exp(log_p) * np.where(possible, values, 0.0), axis=-1)
