"""KL(student || teacher) of whole texts that a rollout drew, as an objective.

Every other objective is used with a rollout as it is: `term(losses.generalized_jsd, 'student', 'teacher', beta=0.1)`
with `with_data(written({'student': model}, ...), share=0.5)` is GKD, `hard_labels()` on what a teacher writes is
sequence-level KD, `term(losses.skew_kl, 'student', 'teacher')` on `replayed` texts is DistiLLM. They do not
differentiate through who is drawn: the states visited are constants to them (arXiv 2306.13649, section 3.1).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kdjax import losses
from kdjax.errors import UserError, unknown
from kdjax.objectives import Objective, term

IMPORTANCE = ('token', 'prefix')


def sequence_kl_reverse(
    student: str = 'student',
    teacher: str = 'teacher',
    *,
    importance: str = 'token',
    mean: bool = False,
    discount: float = 1.0,
    clip: float | None = None,
) -> Objective:
    """KL(student || teacher) of the drawn texts, in two terms whose gradients add up to its own.

    single_step: `losses.kl_reverse` at every state visited, exact over the vocabulary.
    long_part: the policy gradient of what the student's token does to all that follows; its value says nothing.

    importance: where others than the student of now drew the tokens (`batch.behaviour`: a mixture, a memory),
        'token' weighs a token by its own ratio alone, as MiniLLM and PPO do: less variance, and biased;
        'prefix' by the ratio of everything up to what it is credited with: unbiased.
    mean, discount: of `losses.rewards_to_go`; mean=True is MiniLLM's length normalisation. Either changes the gradient.
    clip: of `losses.policy_gradient`, with importance='token'.

    Terms are means over drawn tokens: of texts of n tokens each, 1/n of the KL of a text.
    Raises UserError on another importance, and on a clip with importance='prefix'.
    Source: MiniLLM, arXiv 2306.08543, section 2.2.
    """
    if importance not in IMPORTANCE:
        raise unknown('importance', importance, IMPORTANCE)
    if importance == 'prefix' and clip is not None:
        raise UserError(f"clip={clip} bounds the ratio of a token: use it with importance='token'")
    reads = (student, teacher, 'batch.label', 'batch.behaviour')
    shaped = {'mean': mean, 'discount': discount}
    if importance == 'prefix':
        single = term(_prefix_single_step, *reads, where='batch.drawn', name='single_step')
        return single + term(_prefix_long_part, *reads, where='batch.drawn', name='long_part', **shaped)
    single = term(losses.kl_reverse, student, teacher, where='batch.drawn', name='single_step')
    return single + term(_long_part, *reads, where='batch.drawn', name='long_part', clip=clip, **shaped)


def _long_part(
    student: Float[Array, '*batch time vocab'],
    teacher: Float[Array, '*batch time vocab'],
    label: Int[Array, '*batch time'],
    behaviour: Float[Array, '*batch time'],
    *,
    where: Bool[Array, '*batch time'],
    clip: float | None,
    mean: bool,
    discount: float,
) -> Float[Array, '*batch time']:
    log_s, reward = _said(student, teacher, label, where)
    advantage = losses.rewards_to_go(reward, discount=discount, after=True, mean=mean, where=where)
    return losses.policy_gradient(log_s, advantage, behaviour, clip=clip, where=where)


def _prefix_single_step(student, teacher, label, behaviour, *, where):
    """The reverse KL of a state by the ratio of the tokens that led to it."""
    log_s, _ = _said(student, teacher, label, where)
    ratio = _log_ratio(log_s, behaviour, where)
    return jnp.exp(jnp.cumsum(ratio, axis=-1) - ratio) * losses.kl_reverse(student, teacher, where=where)


def _prefix_long_part(student, teacher, label, behaviour, *, where, mean, discount):
    """Each reward by the ratio of all tokens up to its own: then no ratio of the credited token is left over."""
    log_s, reward = _said(student, teacher, label, where)
    reward = reward * jnp.exp(jnp.cumsum(_log_ratio(log_s, behaviour, where), axis=-1))
    advantage = losses.rewards_to_go(reward, discount=discount, after=True, mean=mean, where=where)
    return losses.policy_gradient(log_s, advantage, where=where)


def _said(student, teacher, label, where):
    """Log-probabilities of the drawn tokens under the student, and log p - log s of them, a constant."""
    log_s, log_p = (-losses.cross_entropy(logits, label, where=where) for logits in (student, teacher))
    return log_s, jax.lax.stop_gradient(log_p - log_s)


def _log_ratio(log_s, behaviour, where):
    return jnp.where(where, jax.lax.stop_gradient(log_s - behaviour), 0.0)
