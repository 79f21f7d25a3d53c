"""Divergences between two distributions as sums over the classes, with their gradients in closed form.

Each takes `log_p` (teacher) and `log_s` (student), elementwise, and returns (value, slope): their sums over the classes
are the divergence D and sum_c dD / d log s_c. Since probabilities sum to one, any multiple of s_c may be added to a
slope; it is chosen here so that slopes vanish where both distributions agree. In logits z the gradient is
slope_c - s_c sum(slope). Classes that neither can say have -inf on both sides and count 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from . import _checks

Elementwise = Float[Array, '...']
Pointwise = Callable[[Elementwise, Elementwise], tuple[Elementwise, Elementwise]]

CONVENTIONS = ('paper', 'normalized', 'continuous')
SMALLEST_BETA = 1e-3
"""Below it, float32 keeps fewer than four digits of D / beta."""


def kl_forward(log_p: Elementwise, log_s: Elementwise) -> tuple[Elementwise, Elementwise]:
    """KL(p || s); the gradient in the logits is s - p (arXiv 1503.02531, eq. 2)."""
    p, s = jnp.exp(log_p), jnp.exp(log_s)
    return p * _ratio(log_p, log_s, p > 0), s - p


def kl_reverse(log_p: Elementwise, log_s: Elementwise) -> tuple[Elementwise, Elementwise]:
    """KL(s || p) (MiniLLM, arXiv 2306.08543, section 2)."""
    s = jnp.exp(log_s)
    value = s * _ratio(log_s, log_p, s > 0)
    return value, value


def jsd(beta: float | int = 0.5, convention: str = 'paper') -> Pointwise:
    """The generalised Jensen-Shannon divergence, with the mixture m = beta p + (1 - beta) s, in one of three forms.

    'paper': beta KL(p || m) + (1 - beta) KL(s || m) (GKD, arXiv 2306.13649, eq. 1), which vanishes at both ends.
    'normalized': that by beta (1 - beta): KL(p || s) at beta = 0, KL(s || p) at 1.
    'continuous': (1 - beta) KL(p || m) + beta KL(s || m): the same two ends, without the division.
    Raises ValueError on beta outside [0, 1], within 1e-3 of an end (the ends themselves are there except in 'paper'),
    and on another convention.
    """
    _checks.between('beta', beta, 0, 1)
    _checks.one_of('convention', convention, CONVENTIONS)
    if beta in (0, 1) and convention != 'paper':
        return kl_reverse if beta else kl_forward
    if not SMALLEST_BETA <= beta <= 1 - SMALLEST_BETA:
        raise ValueError(
            f'beta is {beta}: this close to 0 or 1 the divergence vanishes or loses its digits; take beta in '
            f"[{SMALLEST_BETA}, {1 - SMALLEST_BETA}], or 0 or 1 with convention='normalized' or 'continuous'"
        )
    if convention == 'continuous':
        return functools.partial(_two_sided, mix=beta, of_p=1 - beta, of_s=beta)
    scale = 1 / (beta * (1 - beta)) if convention == 'normalized' else 1.0
    return functools.partial(_two_sided, mix=beta, of_p=beta * scale, of_s=(1 - beta) * scale)


def skew_kl(alpha: float | int = 0.1) -> Pointwise:
    """KL(p || alpha p + (1 - alpha) s) (DistiLLM, arXiv 2402.03898, section 3.1); alpha = 0 is `kl_forward`.

    Raises ValueError on alpha outside [0, 1].
    """
    _checks.between('alpha', alpha, 0, 1)
    return functools.partial(_two_sided, mix=alpha, of_p=1.0, of_s=0.0) if alpha else kl_forward


def skew_kl_reverse(alpha: float | int = 0.1) -> Pointwise:
    """KL(s || (1 - alpha) p + alpha s), likewise; alpha = 0 is `kl_reverse`."""
    _checks.between('alpha', alpha, 0, 1)
    return functools.partial(_two_sided, mix=1 - alpha, of_p=0.0, of_s=1.0) if alpha else kl_reverse


def total_variation(log_p: Elementwise, log_s: Elementwise) -> tuple[Elementwise, Elementwise]:
    """|p - s| / 2; the subgradient at p_c = s_c is 0."""
    p, s = jnp.exp(log_p), jnp.exp(log_s)
    return 0.5 * jnp.abs(p - s), 0.5 * s * jnp.sign(s - p)


def _two_sided(log_p, log_s, *, mix: float, of_p: float, of_s: float):
    """of_p KL(p || m) + of_s KL(s || m) with m = mix p + (1 - mix) s.

    d/d log s is of_s s (log(s/m) + mix p/m) - of_p (1 - mix) s p/m, of which a multiple of s is taken off.
    """
    p, s = jnp.exp(log_p), jnp.exp(log_s)
    m = mix * p + (1 - mix) * s
    there = m > 0
    log_m = jnp.log(jnp.where(there, m, 1.0))
    p_to_m = _ratio(log_p, log_m, there & (p > 0))
    s_to_m = _ratio(log_s, log_m, there & (s > 0))
    value = of_p * p * p_to_m + of_s * s * s_to_m
    share = of_s * mix - of_p * (1 - mix)
    slope = s * (of_s * s_to_m + share * jnp.where(there, p / jnp.where(there, m, 1.0) - 1, 0.0))
    return value, slope


def _ratio(log_a, log_b, there):
    """log(a / b) where `there`, else 0, also where both are -inf."""
    return jnp.where(there, log_a - jnp.where(there, log_b, 0.0), 0.0)


NAMED: dict[str, Callable[..., Pointwise]] = {
    'kl_forward': lambda: kl_forward,
    'kl_reverse': lambda: kl_reverse,
    'jsd': jsd,
    'skew_kl': skew_kl,
    'skew_kl_reverse': skew_kl_reverse,
    'total_variation': lambda: total_variation,
}
"""By name, for command lines: `NAMED['jsd'](beta=0.1)`."""
