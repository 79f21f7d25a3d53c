"""Losses of a draft model: how often speculative decoding accepts its tokens."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._categorical import kl, log_probs
from ._checks import Number, positive
from ._rows import kept


def negative_log_acceptance(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    temperature: Number = 1.0,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """-log alpha, alpha = sum_c min(p_c, s_c): the probability that a token drafted by the student is accepted.

    alpha = 1 - `total_variation`, and the gradient is that of `total_variation` over alpha, which keeps its size where
    they hardly overlap. Range [0, inf), 0 where student = teacher; the subgradient at p_c = s_c is 0. Classes that the
    student alone has at -inf are never drafted, and need no other target.
    Arguments and errors as in `kl_forward`.
    Source: Samarin et al., arXiv 2602.23881, section 4.3.
    """
    log_s, log_p = log_probs(student, teacher, temperature, axis, where)
    return kept(-_log_overlap(log_p, log_s), where)


def hybrid_acceptance(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    eta: Number = 3.0,
    temperature: Number = 1.0,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """w KL(p || s) + (1 - w) (1 - alpha), w = exp(-eta alpha) without gradient, alpha = sum_c min(p_c, s_c).

    KL where the distributions hardly overlap, total variation (1 - alpha) where they nearly agree. Range [0, inf), 0
    where student = teacher. The weight is that of each token, as in the released code; the paper's is one for each
    draft position, from the mean alpha of the batch.
    Raises ValueError on eta <= 0, and as `kl_forward`.
    Source: Samarin et al., arXiv 2602.23881, equations 4 and 5.
    """
    positive('eta', eta)
    log_s, log_p = log_probs(student, teacher, temperature, axis, where)
    alpha = jnp.exp(_log_overlap(log_p, log_s))
    weight = jax.lax.stop_gradient(jnp.exp(-eta * alpha))
    return kept(weight * kl(log_p, log_s) + (1 - weight) * (1 - alpha), where)


def _log_overlap(log_p, log_s):
    """log sum_c min(p_c, s_c), 0 at most: finite also where the overlap underflows."""
    return jnp.minimum(jax.nn.logsumexp(jnp.minimum(log_p, log_s), axis=-1), 0.0)
