"""Distilling a few probabilities whose confidence was corrected first (FIRST)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import _categorical, _checks, _rows


def recalibrated(probs: Float[Array, '*batch k'], scale: _checks.Number) -> Float[Array, '*batch k']:
    """Log-probabilities log softmax(probs / scale) over the last axis: a softmax of probabilities, not of logits.

    Not a loss. scale: one number for a teacher, found on held-out data as that of least calibration error, in (0, 1].
    At 1 no target of five exceeds e / (e + 4) = 0.40; at 0.3, 0.88. As it goes to 0 the largest takes all.
    Raises ValueError on scale <= 0.
    Source: FIRST, arXiv 2408.12168.
    """
    _checks.positive('scale', scale)
    return jax.nn.log_softmax(probs / scale)


def calibrated_top_k(
    student: Float[Array, '*batch classes'],
    ids: Int[Array, '*batch k'],
    probs: Float[Array, '*batch k'],
    *,
    scale: _checks.Number = 0.3,
    form: str = 'softmax',
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*batch']:
    """KL(softmax(probs / scale) || q) over the k classes `ids`, in nats; a constant target.

    ids, probs: the teacher's likeliest classes and their probabilities, as they are, not normalised again.
    form: how q is made of the student's probabilities p at `ids`: 'softmax', softmax(p / scale) with the same scale,
        0 where p = probs; or 'linear', (p + 1e-6) / sum (p + 1e-6), with which the student itself becomes as confident
        as the corrected teacher. (The code's default, scale 1 for the student and another for the teacher, has targets
        that no student can reach.)

    What the student puts on other classes is not seen: both sides are normalised over k.
    Range [0, inf). Raises ValueError on another form, on scale <= 0 and on a mask of another shape.
    Source: FIRST, arXiv 2408.12168, and its code, which sums over tokens and averages over sequences.
    """
    _checks.one_of('form', form, ('softmax', 'linear'))
    _checks.mask_shape(where, student.shape[:-1])
    student, probs = (_rows.blanked(x, where) for x in _rows.widened(student, probs))
    own = jnp.take_along_axis(jax.nn.softmax(student), _rows.blanked(ids, where), axis=-1)
    target = jax.lax.stop_gradient(recalibrated(probs, scale))
    log_q = recalibrated(own, scale) if form == 'softmax' else jax.nn.log_softmax(jnp.log(own + 1e-6))
    return _rows.kept(_categorical.kl(target, log_q), where)
