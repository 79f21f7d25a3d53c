"""Distances between logits themselves, and the standardisation that makes them comparable."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _norms, _rows


def mse_logits(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """mean_c (student_c - teacher_c)^2, in squared logits (the mean, not the sum, over classes).

    Range [0, inf), 0 where student = teacher. Raises ValueError on different shapes.
    Source: Kim et al., arXiv 2105.08919, up to the factor C.
    """
    student, teacher = _rows.logit_rows(student, teacher, axis, where)
    return _rows.kept(jnp.mean(jnp.square(student - teacher), axis=-1), where)


def cosine_logits(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """1 - cos(student, teacher) along the classes.

    Range [0, 2], 0 where they point the same way; 1 where either is the zero vector, which gets no gradient.
    Raises ValueError on different shapes.
    """
    student, teacher = _rows.logit_rows(student, teacher, axis, where)
    return _rows.kept(1 - jnp.sum(_norms.unit(student) * _norms.unit(teacher), axis=-1), where)


def standardize(
    logits: Float[Array, '*batch classes'], *, axis: int = -1, epsilon: float = 1e-7
) -> Float[Array, '*batch classes']:
    """(z - mean(z)) / (epsilon + std(z)) along the classes, std with C - 1 in the denominator.

    Not a loss: apply it to both logits, then any divergence. The result has mean 0 and standard deviation
    1, in float32 or wider; constant rows become 0, without gradient. The divisor is that of the released
    code; with C in its place every logit would be sqrt(C / (C - 1)) times larger (5 % at 10 classes).
    Raises ValueError when there are fewer than two classes.
    Source: Sun et al., arXiv 2403.01427, and its code.
    """
    if logits.shape[axis] < 2:
        raise ValueError(f'logits {logits.shape} have one class on axis {axis}: check `axis`')
    (logits,) = _rows.widened(logits)
    centred = _norms.deviation(logits, axis)
    variance = jnp.sum(jnp.square(centred), axis=axis, keepdims=True) / (logits.shape[axis] - 1)
    return centred / (epsilon + _norms.root(variance))
