"""Learning from preferences: DPO, and the advantage of a DPO teacher over the one it started from."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _categorical, _checks, _rows


def dpo(
    chosen: Float[Array, '*pairs'],
    rejected: Float[Array, '*others'],
    reference_chosen: Float[Array, '*references'],
    reference_rejected: Float[Array, '*reference_others'],
    *,
    beta: float | int = 0.1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*pairs']:
    """-log sigmoid(beta ((chosen - rejected) - (reference_chosen - reference_rejected))), in nats.

    All four are log-probabilities of whole responses, sums over their tokens, under the student and under the
    reference. Range [0, inf); log 2 where the student is the reference.
    Raises ValueError on beta not above 0 and on different shapes.
    Source: Rafailov et al., arXiv 2305.18290, equation 7.
    """
    _checks.positive('beta', beta)
    chosen, rejected, *reference = _rows.paired(
        where,
        chosen=chosen,
        rejected=rejected,
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
    )
    margin = (chosen - rejected) - (reference[0] - reference[1])
    return _rows.kept(jax.nn.softplus(-beta * margin), where)


def advantage_expectation(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    reference: Float[Array, '*reference_batch reference_classes'],
    *,
    clamped: bool = False,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """-sum_v s_v A_v with A = log p - log r, a constant; p the teacher after DPO, r the one before.

    The exact expectation over the vocabulary, no sampled token. Unbounded below: its minimum puts all mass on the
    largest A, so it needs the likelihood of the preferred response beside it. At student = teacher it is
    -KL(p || r). Tokens that a cache does not hold get A = 0 by equal logits on both sides.

    clamped: A held within [1e-8, 1 - 1e-8], as the released code loads it: what the teacher has come to avoid then
        counts for nothing, and no token for more than 1.

    Raises ValueError on different shapes.
    Source: ADPA, arXiv 2502.17927, without its beta, which the code leaves to the weight (1.6 there).
    """
    _checks.same_classes(reference, teacher, axis)
    log_s, log_p = _categorical.log_probs(student, teacher, 1.0, axis, where)
    _, log_r = _categorical.log_probs(student, reference, 1.0, axis, where)
    alive = (log_p > -jnp.inf) & (log_r > -jnp.inf)
    advantage = jax.lax.stop_gradient(jnp.where(alive, log_p - log_r, 0.0))
    if clamped:
        advantage = jnp.clip(advantage, 1e-8, 1 - 1e-8)
    return _rows.kept(-_categorical.expectation(log_s, advantage), where)
