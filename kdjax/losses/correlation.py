"""Correlations between predictions: within an example, and within a class over the batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _checks, _norms, _rows
from ._categorical import scaled
from ._checks import Number


def pearson(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """1 - the Pearson correlation of student and teacher along `axis`.

    Range [0, 2]; unchanged by a shift or a positive scale of either side; 1 where either is constant, which
    then gets no gradient. Raises ValueError on different shapes.
    """
    student, teacher = _rows.logit_rows(student, teacher, axis, where)
    student, teacher = (_norms.unit(_norms.deviation(x, -1)) for x in (student, teacher))
    return _rows.kept(1 - jnp.sum(student * teacher, axis=-1), where)


def dist(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    beta: Number = 1.0,
    gamma: Number = 1.0,
    temperature: Number = 1.0,
    t_squared: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """DIST: beta (1 - corr within each example) + gamma (1 - corr within each class over the batch).

    Correlations of the probabilities softmax(logits / temperature) of student and teacher.

    Coupled over the batch (all leading axes together): the second part is given as row contributions,
    1 - (n / C) sum_c a_ic b_ic, a and b being centred unit columns, so that the mean over the n examples
    that count is the published scalar; a single row may be negative. Masked rows enter no column statistic.
    Range of the mean [0, 2 (beta + gamma)], 0 where student = teacher. Columns without variance correlate 0.

    Raises ValueError on different shapes and on temperature <= 0. The code multiplies by T^2: pass t_squared.
    Source: DIST, arXiv 2205.10536, section 3, and its code.
    """
    _checks.positive('temperature', temperature)
    student, teacher = _rows.logit_rows(student, teacher, axis, where)
    examples, classes = student.shape[:-1], student.shape[-1]
    student, teacher = (jax.nn.softmax(x / temperature).reshape(-1, classes) for x in (student, teacher))
    valid = jnp.ones(examples, bool) if where is None else where
    weight = valid.reshape(-1, 1).astype(student.dtype)
    inter = pearson(student, teacher)
    columns = (_norms.unit(_norms.deviation(x, 0, weight), axis=0) for x in (student, teacher))
    intra = 1 - _rows.count(weight) / classes * jnp.sum(next(columns) * next(columns), axis=-1)
    values = (beta * inter + gamma * intra).reshape(examples)
    return scaled(values, temperature, t_squared, where)
