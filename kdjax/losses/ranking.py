"""List-wise losses: the student learns the teacher's order of the classes."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import _checks, _rows


def plackett_luce(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    labels: Int[Array, '...'],
    *,
    weights: Literal['teacher', 'uniform'] | Float[Array, '...'] = 'teacher',
    temperature: _checks.Number = 1.0,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """Plackett-Luce distillation: sum_k w_k (logsumexp_{l >= k} s_{pi_l} - s_{pi_k}), in nats.

    pi puts the label first, then the other classes by falling teacher logit. weights: 'teacher' gives
    w_k = softmax(teacher / temperature) at class pi_k (so w_1 is the teacher's p_y, not 1); 'uniform' gives
    1 / C (ListMLE); an array of C weights by position is taken as it is: (1, 0, ..., 0) is cross-entropy.
    temperature touches the weights only: neither the order nor the student's logits, and there is no T^2.
    The teacher is a constant here. labels: class ids.

    Range [0, inf); unchanged by a constant added to the student's logits, convex in them. Not 0 where
    student = teacher: it is a weighted negative log-likelihood.
    Raises ValueError on different shapes, labels that are not one id for each example, weights of another
    length, unknown weights, temperature <= 0. Source: PLD, arXiv 2506.12542, sections 4.1, 4.2 and appendix
    C.
    """
    _checks.positive('temperature', temperature)
    student, teacher = _rows.logit_rows(student, teacher, axis, where)
    labels = _rows.label_rows(labels, where, student.shape[:-1])
    teacher = jax.lax.stop_gradient(teacher)
    classes = student.shape[-1]
    target = jax.nn.one_hot(labels, classes, dtype=bool)
    order = jnp.argsort(jnp.where(target, jnp.inf, teacher), axis=-1, descending=True)
    ranked = jnp.take_along_axis(student, order, axis=-1)
    surprise = jax.lax.cumlogsumexp(ranked, axis=ranked.ndim - 1, reverse=True) - ranked
    return _rows.kept(jnp.sum(_by_position(weights, teacher / temperature, order) * surprise, axis=-1), where)


def _by_position(weights, teacher, order):
    """Weights of the positions, of rank and type of the logits."""
    if isinstance(weights, str):
        _checks.one_of('weights', weights, ('teacher', 'uniform'))
        if weights == 'uniform':
            return jnp.full_like(teacher, 1 / teacher.shape[-1])
        return jnp.take_along_axis(jax.nn.softmax(teacher), order, axis=-1)
    if weights.shape != teacher.shape[-1:]:
        raise ValueError(
            f'weights have shape {weights.shape}, classes are {teacher.shape[-1]}: give one for each position'
        )
    return jnp.broadcast_to(weights.astype(teacher.dtype), teacher.shape)
