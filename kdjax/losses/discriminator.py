"""Losses of a discriminator that tells student from teacher."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _checks, _rows


def binary_cross_entropy(
    logits: Float[Array, '*batch heads'],
    targets: Float[Array, '*target_batch target_heads'],
    *,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """mean over heads of -t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)), in nats.

    logits: of the discriminator, one or several heads on `axis`; targets in [0, 1], of the same shape, e.g.
    (1, 0) for student rows and (0, 1) for teacher rows. Range [0, inf); log 2 at x = 0.
    Who minimises it decides the game: all players together (released MEAL V2), or the student its negative.
    Raises ValueError on different shapes. Source: MEAL V2, arXiv 2009.08453, section 3, and its code
    (loss.py).
    """
    _checks.same_targets('targets', logits, targets)
    logits, targets = _rows.logit_rows(logits, targets, axis, where)
    return _rows.kept(jnp.mean(jax.nn.softplus(logits) - targets * logits, axis=-1), where)
