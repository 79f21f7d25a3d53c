"""Divergences between the class distributions of student and teacher."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._categorical import kl, log_probs, scaled
from ._checks import Number, between
from .pointwise import SMALLEST_BETA


def kl_forward(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    temperature: Number = 1.0,
    t_squared: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """KL(teacher || student) = sum_c p_c (log p_c - log s_c), in nats; p, s = softmax(logits / temperature).

    Range [0, inf), 0 where student = teacher. `t_squared` multiplies by T^2, which makes the gradient
    T (s - p): of the same size at every temperature. Logits of -inf on both sides mark classes that do not
    exist.
    Raises ValueError on different shapes and on temperature <= 0.
    Source: Hinton et al., arXiv 1503.02531, sections 2 and 2.1.
    """
    log_s, log_p = log_probs(student, teacher, temperature, axis, where)
    return scaled(kl(log_p, log_s), temperature, t_squared, where)


def kl_reverse(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    temperature: Number = 1.0,
    t_squared: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """KL(student || teacher) = sum_c s_c (log s_c - log p_c), in nats.

    Mode-seeking, where `kl_forward` covers all modes.
    Range [0, inf), 0 where student = teacher. Arguments and errors as in `kl_forward`.
    Source: MiniLLM, arXiv 2306.08543, section 2.
    """
    log_s, log_p = log_probs(student, teacher, temperature, axis, where)
    return scaled(kl(log_s, log_p), temperature, t_squared, where)


def jensen_shannon(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    temperature: Number = 1.0,
    t_squared: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """(KL(p || m) + KL(s || m)) / 2 with m = (p + s) / 2, in nats: `generalized_jsd` at beta = 1/2.

    Range [0, log 2], 0 where student = teacher, symmetric. Arguments and errors as in `kl_forward`.
    """
    return generalized_jsd(
        student, teacher, temperature=temperature, t_squared=t_squared, axis=axis, where=where
    )


def generalized_jsd(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    beta: float | int = 0.5,
    normalized: bool = False,
    temperature: Number = 1.0,
    t_squared: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """beta KL(p || m) + (1 - beta) KL(s || m) with m = beta p + (1 - beta) s, in nats; p teacher, s student.

    Range [0, entropy of (beta, 1 - beta)], 0 where student = teacher. It vanishes with beta -> 0 and beta ->
    1. `normalized` divides by beta (1 - beta): then the limits are KL(p || s) at beta = 0 and KL(s || p) at
    beta = 1, both of which may be asked for, and the scale of the gradient no longer depends on beta.
    (TRL and Liger return those two limits at beta = 0 and 1 of the form that is not normalised: a jump.)

    Raises ValueError on beta within 1e-3 of 0 or 1 (exactly 0 and 1 are allowed when normalised), and as
    `kl_forward`.
    Source: GKD, arXiv 2306.13649, equation 1.
    """
    between('beta', beta, 0, 1)
    if not SMALLEST_BETA <= beta <= 1 - SMALLEST_BETA and not (normalized and beta in (0, 1)):
        raise ValueError(
            f'beta is {beta}: this close to 0 or 1 the divergence vanishes or loses its digits; take beta in '
            f'[{SMALLEST_BETA}, {1 - SMALLEST_BETA}], or normalized=True with beta 0 (kl_forward) or 1'
        )
    log_s, log_p = log_probs(student, teacher, temperature, axis, where)
    if beta in (0, 1):
        values = kl(log_s, log_p) if beta else kl(log_p, log_s)
        return scaled(values, temperature, t_squared, where)
    log_m = _mixture(log_p, log_s, beta)
    values = beta * kl(log_p, log_m) + (1 - beta) * kl(log_s, log_m)
    if normalized:
        values = values / (beta * (1 - beta))
    return scaled(values, temperature, t_squared, where)


def skew_kl(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    alpha: float | int = 0.1,
    temperature: Number = 1.0,
    t_squared: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """KL(p || alpha p + (1 - alpha) s), in nats; p teacher, s student, gradient through the mixture.

    Range [0, -log alpha], 0 where student = teacher; alpha = 0 is `kl_forward`.
    Raises ValueError on alpha outside [0, 1], and as `kl_forward`.
    Source: DistiLLM, arXiv 2402.03898, section 3.1.
    """
    between('alpha', alpha, 0, 1)
    log_s, log_p = log_probs(student, teacher, temperature, axis, where)
    return scaled(kl(log_p, _mixture(log_p, log_s, alpha)), temperature, t_squared, where)


def skew_kl_reverse(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    alpha: float | int = 0.1,
    temperature: Number = 1.0,
    t_squared: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """KL(s || (1 - alpha) p + alpha s), in nats; p teacher, s student, gradient through the mixture.

    Range [0, -log alpha], 0 where student = teacher; alpha = 0 is `kl_reverse`.
    Raises ValueError on alpha outside [0, 1], and as `kl_forward`.
    Source: DistiLLM, arXiv 2402.03898, section 3.1.
    """
    between('alpha', alpha, 0, 1)
    log_s, log_p = log_probs(student, teacher, temperature, axis, where)
    return scaled(kl(log_s, _mixture(log_s, log_p, alpha)), temperature, t_squared, where)


def total_variation(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    temperature: Number = 1.0,
    t_squared: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """sum_c |p_c - s_c| / 2 = 1 - sum_c min(p_c, s_c).

    Range [0, 1], 0 where student = teacher; the subgradient at p_c = s_c is 0. Arguments as in `kl_forward`.
    """
    log_s, log_p = log_probs(student, teacher, temperature, axis, where)
    values = 0.5 * jnp.sum(jnp.abs(jnp.exp(log_p) - jnp.exp(log_s)), axis=-1)
    return scaled(values, temperature, t_squared, where)


def alpha_divergence(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    alpha: float | int = 0.5,
    temperature: Number = 1.0,
    t_squared: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """(sum_c p_c^alpha s_c^(1 - alpha) - 1) / (alpha (alpha - 1)); p teacher, s student.

    alpha = 1 is KL(p || s), alpha = 0 is KL(s || p), both as limits and at the point itself; alpha = 1/2 is
    twice the sum of (sqrt p - sqrt s)^2, alpha = 2 half of chi-square. Range [0, 1 / (alpha (1 - alpha))]
    for alpha in (0, 1), [0, inf) outside, where float32 overflows once p_c / s_c does. 0 where student =
    teacher. Arguments and errors as in `kl_forward`.
    Source: Amari's family, as in AlphaNet, arXiv 2102.07954.
    """
    log_s, log_p = log_probs(student, teacher, temperature, axis, where)
    if alpha in (0, 1):
        values = kl(log_p, log_s) if alpha else kl(log_s, log_p)
        return scaled(values, temperature, t_squared, where)
    # The larger exponent stays outside: a sum of p (r^e - 1), |e| small, keeps its digits near both limits.
    outside, inside, exponent = (log_p, log_s, 1 - alpha) if alpha >= 0.5 else (log_s, log_p, alpha)
    power = exponent * jnp.where(outside > -jnp.inf, inside - outside, 0.0)
    near = power < 1
    terms = jnp.where(
        near,
        jnp.exp(outside) * jnp.expm1(jnp.where(near, power, 0.0)),
        jnp.exp(jnp.where(near, 0.0, outside + power)) - jnp.exp(outside),
    )
    return scaled(jnp.sum(terms, axis=-1) / (alpha * (alpha - 1)), temperature, t_squared, where)


def _mixture(log_first, log_second, weight):
    """log(weight * first + (1 - weight) * second)."""
    if weight in (0, 1):
        return log_first if weight else log_second
    return jnp.logaddexp(log_first + math.log(weight), log_second + math.log1p(-weight))
