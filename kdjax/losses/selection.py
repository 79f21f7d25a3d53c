"""Which tokens to learn from: those where a reference shows that the student can still gain (AdaSPEC)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _checks, _rows
from .divergences import kl_forward


def select_tokens(
    delta: Float[Array, '*examples'], *, keep: float | int = 0.4, where: Bool[Array, '*examples'] | None = None
) -> Bool[Array, '*examples']:
    """Which examples lie at or above the (1 - keep) quantile of delta, among those that count.

    Quantiles are interpolated linearly, over all axes at once. Not a loss; constant.
    Raises ValueError on keep outside [0, 1] and on a mask of another shape.
    """
    _checks.between('keep', keep, 0, 1)
    _checks.mask_shape(where, delta.shape)
    (delta,) = _rows.widened(delta)
    counts = jnp.ones(delta.shape, bool) if where is None else where
    ranked = jnp.sort(jnp.where(counts, delta, jnp.inf), axis=None)
    place = (1 - keep) * jnp.maximum(jnp.sum(counts) - 1, 0).astype(delta.dtype)
    low, high = (ranked[f(place).astype(jnp.int32)] for f in (jnp.floor, jnp.ceil))
    between = place - jnp.floor(place)
    threshold = jnp.where(between > 0, low + between * (high - low), low)
    return jax.lax.stop_gradient(counts & (delta >= threshold))


def adaspec(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    reference: Float[Array, '*reference_batch reference_classes'],
    *,
    keep: float | int = 0.4,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """`kl_forward` on the tokens with the largest KL(p || s) - KL(p || reference), 0 on the others.

    reference: logits of a student that was distilled before. What it could not learn either is passed over, and so is
        what the student has learned. The selection is constant and couples the batch: the mean over the examples that
        count is the published sum over the kept ones by the number of all.
    keep: the share to keep, 0.4 in the released scripts; at 1 it is `kl_forward`.

    Range [0, inf), 0 where student = teacher. Raises ValueError as `kl_forward` and `select_tokens`.
    Source: AdaSPEC, Hu et al., NeurIPS 2025, and the `AdaSPECTrainer` of its code.
    """
    values = kl_forward(student, teacher, axis=axis, where=where)
    learnable = values - kl_forward(reference, teacher, axis=axis, where=where)
    return jnp.where(select_tokens(learnable, keep=keep, where=where), values, 0.0)
