"""Losses against a teacher of which only some classes are known: `ids` and their probabilities.

ids: int `[*batch, k]`, those below 0 are padding; probs: `[*batch, k]`, under the softmax over *all* classes, at the
temperature of the loss. An id beyond the student's classes gives NaN, which stops a run, never another class.
What each does to the gradient s - p of the full KL(p || s) is stated; P = sum of the known probabilities, S = the
student's probability of the same classes. All equal the full KL (`sparse_cross_entropy`: the full cross-entropy) when
every class is known.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import _checks, _rows
from ._checks import Number


def sparse_cross_entropy(
    student: Float[Array, '*batch classes'],
    ids: Int[Array, '*ids_batch k'],
    weights: Float[Array, '*weights_batch probabilities'],
    *,
    temperature: Number = 1.0,
    t_squared: bool = False,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """-sum_i w_i log s_i over the known classes, in nats; s = softmax(student / temperature).

    With sampled weights, E[w] = p for every class (`kdjax.data.teacher_cache`), its expectation is the cross-entropy
    with the teacher and its gradient (sum w) s - w has the expectation s - p: unbiased. With the k largest
    probabilities as weights the gradient is P s - p on the known classes and P s elsewhere: the student is taught
    p / P, which is over-confident.
    Range [0, inf). Raises ValueError on other shapes and on temperature <= 0.
    Source: RSKD, arXiv 2503.16870, section 3.
    """
    log_s, _, weights = _known(student, ids, weights, temperature, where)
    return _scaled(-_weighted(weights, log_s), temperature, t_squared, where)


def sparse_kl(
    student: Float[Array, '*batch classes'],
    ids: Int[Array, '*ids_batch k'],
    weights: Float[Array, '*weights_batch probabilities'],
    entropy: Float[Array, '*entropy_batch'],
    *,
    temperature: Number = 1.0,
    t_squared: bool = False,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """`sparse_cross_entropy` minus the teacher's entropy `[*batch]`: with sampled weights an estimate of KL(p || s).

    Value and gradient are unbiased; one draw may be negative. Arguments and errors as there.
    """
    log_s, _, weights = _known(student, ids, weights, temperature, where)
    (entropy,) = _rows.widened(entropy)
    if entropy.shape != log_s.shape[:-1]:
        raise ValueError(f'entropy has shape {entropy.shape}, the examples {log_s.shape[:-1]}: give one for each')
    return _scaled(-_weighted(weights, log_s) - _rows.blanked(entropy, where), temperature, t_squared, where)


def truncated_kl(
    student: Float[Array, '*batch classes'],
    ids: Int[Array, '*ids_batch k'],
    probs: Float[Array, '*probs_batch probabilities'],
    *,
    temperature: Number = 1.0,
    t_squared: bool = False,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """sum over the known classes of p_i (log p_i - log s_i), in nats: the full sum, cut off.

    Not a divergence: its range is [P log P, inf), negative where the student's S exceeds P. Biased: the gradient is
    that of `sparse_cross_entropy`, with the minimum at s = p / P instead of p.
    Raises ValueError on other shapes and on temperature <= 0.
    """
    log_s, _, probs = _known(student, ids, probs, temperature, where)
    return _scaled(_weighted(probs, _log(probs) - log_s), temperature, t_squared, where)


def renormalized_kl(
    student: Float[Array, '*batch classes'],
    ids: Int[Array, '*ids_batch k'],
    probs: Float[Array, '*probs_batch probabilities'],
    *,
    both: bool = False,
    temperature: Number = 1.0,
    t_squared: bool = False,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """KL(p / P || s), in nats; with `both`, KL(p / P || s / S) among the known classes.

    Range [0, inf). Biased: with the teacher alone renormalised the gradient is s - p / P, whose minimum leaves the
    unknown classes nothing (its value at s = p is -log P); with `both` it is s / S - p / P on the known classes, 0 at
    s = p, and nothing on the others: blind to how much probability the student gives them.
    Raises ValueError on other shapes and on temperature <= 0.
    """
    log_s, present, probs = _known(student, ids, probs, temperature, where)
    total = jnp.sum(probs, axis=-1, keepdims=True)
    share = probs / jnp.where(total > 0, total, 1.0)
    if both:
        log_s = log_s - _log_sum(log_s, present)[..., None]
    return _scaled(_weighted(share, _log(share) - log_s), temperature, t_squared, where)


def tail_bucket_kl(
    student: Float[Array, '*batch classes'],
    ids: Int[Array, '*ids_batch k'],
    probs: Float[Array, '*probs_batch probabilities'],
    *,
    temperature: Number = 1.0,
    t_squared: bool = False,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """KL between (p_1 .. p_k, 1 - P) and (s_1 .. s_k, 1 - S), in nats: all unknown classes are one.

    Range [0, full KL]: a valid divergence and, by the data processing inequality, a lower bound of the full one; 0 at
    s = p. The ids must differ. Biased: the gradient is exact on the known classes; on the others it is
    (1 - (1 - P) / (1 - S)) s_c, which moves them all alike, as if the teacher shared the student's ranking of them.
    Raises ValueError on other shapes and on temperature <= 0.
    """
    log_s, _, probs = _known(student, ids, probs, temperature, where)
    rest = jnp.maximum(1.0 - jnp.sum(probs, axis=-1), 0.0)
    log_rest, exists = _log_unknown(student, ids, temperature, where)
    known = _weighted(probs, _log(probs) - log_s)
    unknown = _weighted(jnp.where(exists, rest, 0.0)[..., None], (_log(rest) - log_rest)[..., None])
    return _scaled(known + unknown, temperature, t_squared, where)


def _known(student, ids, probs, temperature, where):
    """The student's log-probabilities at the ids, which of them are there, and the teacher's probabilities (else 0)."""
    student, ids, probs = _arguments(student, ids, probs, temperature, where)
    present = ids >= 0
    at_ids = jnp.take_along_axis(student, jnp.where(present, ids, 0), axis=-1, mode='fill', fill_value=jnp.nan)
    log_s = at_ids - jax.nn.logsumexp(student, axis=-1, keepdims=True)
    return log_s, present, jnp.where(present, probs, 0.0)


def _log_unknown(student, ids, temperature, where):
    """The log of the student's probability of all classes not in ids, and whether there are any. 0 where not."""
    student, ids, _ = _arguments(student, ids, None, temperature, where)
    classes = student.shape[-1]
    places = jnp.where(ids >= 0, ids, classes)
    others = jnp.put_along_axis(student, places, -jnp.inf, axis=-1, inplace=False, mode='drop')
    log_rest = _log_sum(others, others > -jnp.inf)
    exists = jnp.any(others > -jnp.inf, axis=-1)
    return jnp.where(exists, log_rest - jax.nn.logsumexp(student, axis=-1), 0.0), exists


def _arguments(student, ids, probs, temperature, where):
    """Logits over the temperature, ids and probabilities, checked, and zeros under the mask."""
    _checks.positive('temperature', temperature)
    if ids.shape[:-1] != student.shape[:-1] or (probs is not None and probs.shape != ids.shape):
        raise ValueError(
            f'student has shape {student.shape}, ids {ids.shape}'
            + ('' if probs is None else f', probabilities {probs.shape}')
            + ': give k ids, and a probability for each, to every example'
        )
    _checks.mask_shape(where, student.shape[:-1])
    student, probs = _rows.widened(student, student if probs is None else probs)
    return _rows.blanked(student, where) / temperature, _rows.blanked(ids, where), _rows.blanked(probs, where)


def _weighted(weights, values):
    """sum_i w_i v_i, 0 from those with w_i = 0 whatever v_i is there."""
    inside = weights != 0
    return jnp.sum(jnp.where(inside, weights * jnp.where(inside, values, 0.0), 0.0), axis=-1)


def _log(probs):
    """log p, and 0 where p = 0 (nothing weighs it there)."""
    return jnp.where(probs > 0, jnp.log(jnp.where(probs > 0, probs, 1.0)), 0.0)


def _log_sum(logs, present):
    """logsumexp over the last axis of those present; 0, without a gradient, where none is."""
    some = jnp.any(present, axis=-1, keepdims=True)
    total = jax.nn.logsumexp(jnp.where(some, jnp.where(present, logs, -jnp.inf), 0.0), axis=-1)
    return jnp.where(some[..., 0], total, 0.0)


def _scaled(values, temperature, t_squared, where):
    return _rows.kept(values * temperature**2 if t_squared else values, where)
