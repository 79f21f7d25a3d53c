"""Targets between student and teacher: TAID, and the adaptive mixture of both directions of KL."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _categorical, _checks, _rows


def taid(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    t: Float[Array, ''] | float | int,
    *,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """Cross-entropy -sum_c q_c log s_c to q = softmax((1 - t) student + t teacher), in nats; q is a constant.

    Logits are mixed, not probabilities. The gradient in the student's logits is s - q: that of `kl_forward` to q, and
    of `kl_forward` to the teacher at t = 1; at t = 0 there is none. The entropy of q is not taken off, because
    `taid_step` reads this value. At student = teacher it is the teacher's entropy.

    t: from 0 to 1, of `taid_step`; traced or not.
    Raises ValueError on different shapes, and on a Python t outside [0, 1].
    Source: Shing et al., arXiv 2501.16937, and its code.
    """
    if isinstance(t, (int, float)):
        _checks.between('t', t, 0, 1)
    student, teacher = _rows.logit_rows(student, teacher, axis, where)
    alive = (student > -jnp.inf) & (teacher > -jnp.inf)
    t = jnp.asarray(t, student.dtype)
    mixed = (1 - t) * jnp.where(alive, student, 0.0) + t * jnp.where(alive, teacher, 0.0)
    log_q = jax.lax.stop_gradient(jax.nn.log_softmax(jnp.where(alive, mixed, -jnp.inf)))
    return _rows.kept(-_categorical.expectation(log_q, jax.nn.log_softmax(student)), where)


class TaidState(NamedTuple):
    """What `taid_step` keeps: how far the target is, the momentum of progress, and the loss before (inf at first).

    Not a loss.
    """

    t: Float[Array, '']
    momentum: Float[Array, '']
    loss: Float[Array, '']


def taid_start(t: float = 0.4) -> TaidState:
    """The state before the first step. Not a loss. Source: t = 0.4 or 0.2 in the released scripts."""
    return TaidState(*(jnp.asarray(x, jnp.float32) for x in (t, 0.0, jnp.inf)))


def taid_step(
    state: TaidState,
    loss: Float[Array, ''],
    progress: Float[Array, ''] | float,
    *,
    start: float = 0.4,
    end: float = 1.0,
    alpha: float = 5e-4,
    beta: float = 0.99,
) -> TaidState:
    """The state after a step: t rises by alpha sigmoid(momentum) (1 - t), and never falls below the line.

    Not a loss.
    loss: the mean of `taid` at the state's t over the whole batch.
    progress: the share of training that is done, 0 to 1; the line goes from `start` to `end`.
    The momentum is the average, decaying by beta, of (previous - loss) / previous. The first loss is only kept.
    t does not fall and does not exceed `end`; with the defaults and few steps it is the line.
    Once for each update of the weights: the released code also counts validation batches and parts of a batch.
    Source: arXiv 2501.16937, and its code.
    """
    first = jnp.isinf(state.loss)
    before = jnp.where(first, 1.0, state.loss)
    momentum = beta * state.momentum + (1 - beta) * (before - loss) / (before + 1e-15)
    line = start + (end - start) * jnp.asarray(progress, jnp.float32)
    faster = state.t + alpha * jax.nn.sigmoid(momentum) * (1 - state.t)
    t = jnp.minimum(end, jnp.maximum(line, faster))
    return TaidState(
        jnp.where(first, state.t, t), jnp.where(first, state.momentum, momentum), jnp.asarray(loss, jnp.float32)
    )


def adaptive_kl(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    mu: float | int = 0.5,
    temperature: _checks.Number = 1.0,
    t_squared: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """w KL(p || s) + (1 - w) KL(s || p), in nats, w = the head's share of sum_c |p_c - s_c|, a constant.

    The head: the teacher's likeliest class, and those after it as long as their cumulative probability stays within
    mu (of equal ones all or none). Where the head is off, the forward direction is weighted up, where the tail is,
    the reverse.
    Range [0, inf), 0 where student = teacher. Arguments and errors as in `kl_forward`; mu lies in [0, 1].
    Source: AKL, Wu et al., arXiv 2404.02657, and its code.
    """
    _checks.between('mu', mu, 0, 1)
    log_s, log_p = _categorical.log_probs(student, teacher, temperature, axis, where)
    s, p = (jnp.exp(jax.lax.stop_gradient(x)) for x in (log_s, log_p))
    weight = _head_share(s, p, mu)
    values = weight * _categorical.kl(log_p, log_s) + (1 - weight) * _categorical.kl(log_s, log_p)
    return _categorical.scaled(values, temperature, t_squared, where)


def _head_share(s, p, mu: float | int):
    """Of the distance between two distributions, the part in the head of p."""
    gap = jnp.abs(p - s)
    total = jnp.sum(gap, axis=-1)
    share = jnp.sum(jnp.where(_head(p, mu), gap, 0.0), axis=-1) / jnp.where(total > 0, total, 1.0)
    return jnp.where(total > 0, share, 0.5)


def _head(p, mu: float | int):
    """The classes whose probability, with that of all that are at least as likely, is within mu; and the first.

    The least such probability is found by bisection of its bits, which are in the order of the numbers: XLA's sort of
    a vocabulary takes 7 times as long on a CPU.
    """
    if mu >= 1:
        return jnp.ones(p.shape, bool)
    whole = jnp.int32 if p.dtype == jnp.float32 else jnp.int64
    bits = jax.lax.bitcast_convert_type(p, whole)
    one = jax.lax.bitcast_convert_type(jnp.ones((), p.dtype), whole)

    def halve(_, ends):
        low, high = ends
        middle = low + (high - low) // 2
        within = jnp.sum(jnp.where(bits >= middle, p, 0.0), axis=-1, keepdims=True) <= mu
        return jnp.where(within, low, middle), jnp.where(within, middle, high)

    start = jnp.zeros_like(bits[..., :1])
    _, least = jax.lax.fori_loop(0, 8 * p.dtype.itemsize, halve, (start, jnp.full_like(start, one + 1)))
    likeliest = jax.nn.one_hot(jnp.argmax(p, axis=-1), p.shape[-1], dtype=bool)
    return (bits >= least) | likeliest
