"""KD split into the target class against the rest, and the rest among themselves."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import _checks, _rows
from ._categorical import kl, scaled
from ._checks import Number


def tckd(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    labels: Int[Array, '...'],
    *,
    temperature: Number = 1.0,
    t_squared: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """Target-class KD: KL between (p_y, 1 - p_y) of the teacher and of the student, in nats.

    Range [0, inf), 0 where student = teacher. log(1 - p_y) is a log-sum-exp over the other classes, exact
    when p_y rounds to 1. Arguments and errors as in `dkd`. Source: arXiv 2203.08679, section 3.
    """
    student, teacher, target = _rows_with_target(student, teacher, labels, temperature, axis, where)
    values = kl(_binary(teacher, target), _binary(student, target))
    return scaled(values, temperature, t_squared, where)


def nckd(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    labels: Int[Array, '...'],
    *,
    temperature: Number = 1.0,
    t_squared: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """Non-target KD: KL between the softmaxes over the classes other than the label, in nats.

    Range [0, inf), 0 where student = teacher (and with two classes).
    Arguments and errors as in `dkd`. Source: arXiv 2203.08679, section 3.
    """
    student, teacher, target = _rows_with_target(student, teacher, labels, temperature, axis, where)
    values = kl(_others(teacher, target), _others(student, target))
    return scaled(values, temperature, t_squared, where)


def dkd(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    labels: Int[Array, '...'],
    *,
    alpha: Number = 1.0,
    beta: Number = 8.0,
    temperature: Number = 1.0,
    t_squared: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """Decoupled KD: alpha TCKD + beta NCKD, in nats.

    alpha = 1 with beta = 1 - p_y (the teacher's, one for each example) is `kl_forward` exactly. The paper
    takes alpha = 1, beta between 2 and 8 (half the gap between the teacher's target and best other logit),
    temperature 4, t_squared, and warms the whole loss up over 20 epochs.
    alpha, beta: numbers, or arrays with one value for each example. labels: class ids.

    Range [0, inf), 0 where student = teacher. Raises ValueError on different shapes, fewer than two classes,
    labels that are not one id for each example, temperature <= 0. Source: arXiv 2203.08679, section 3.
    """
    student, teacher, target = _rows_with_target(student, teacher, labels, temperature, axis, where)
    target_part = kl(_binary(teacher, target), _binary(student, target))
    other_part = kl(_others(teacher, target), _others(student, target))
    return scaled(alpha * target_part + beta * other_part, temperature, t_squared, where)


def _rows_with_target(student, teacher, labels, temperature, axis, where):
    _checks.positive('temperature', temperature)
    student, teacher = _rows.logit_rows(student, teacher, axis, where)
    if student.shape[-1] < 2:
        raise ValueError(f'logits {student.shape} have one class: decoupling needs at least two')
    labels = _rows.label_rows(labels, where, student.shape[:-1])
    return student / temperature, teacher / temperature, jax.nn.one_hot(labels, student.shape[-1], dtype=bool)


def _binary(logits, target):
    """log (p_y, 1 - p_y)."""
    of_target = jnp.sum(jnp.where(target, logits, 0.0), axis=-1)
    of_others = jax.nn.logsumexp(jnp.where(target, -jnp.inf, logits), axis=-1)
    return jax.nn.log_softmax(jnp.stack([of_target, of_others], axis=-1))


def _others(logits, target):
    """Log-probabilities among the other classes, -inf at the target."""
    return jax.nn.log_softmax(jnp.where(target, -jnp.inf, logits))
