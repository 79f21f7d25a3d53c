"""Reverse KL from samples: what may be differentiated, policy gradients, and the rewards that drive them.

Everything here reads log-probabilities of tokens that somebody drew. MiniLLM (arXiv 2306.08543) splits the gradient
of KL(student || teacher) over whole sequences in two:

    reward = log_p - log_s                                     of the drawn tokens, constant
    single step: kl_reverse(student, teacher)                  exact over the vocabulary, at every state visited
    long part:   policy_gradient(log_s, rewards_to_go(reward, after=True), behaviour)

The sum of both is the exact gradient in expectation. `mean=True` is the paper's length normalisation (section 2.2,
which makes it another gradient), and `behaviour` the `log_mixture` of its teacher-mixed sampling. The released code
differs: its returns include the token's own reward, which the single step counts again, with a discount of 0.95 and
whitened advantages.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _checks, _rows


def kl_estimate(
    student: Float[Array, '*examples'],
    teacher: Float[Array, '*teacher_examples'],
    *,
    form: str = 'k2',
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """KL(student || teacher) from one token that the student drew, in nats; log-probabilities of that token.

    With r = log p - log s, in expectation over the student's draws:

        form   value              range        its mean               the mean of its gradient
        k1     -r                 R            KL(s || p)             0: no loss at all
        k2     r^2 / 2            [0, inf)     close to it, biased    that of KL(s || p)
        k3     exp(r) - 1 - r     [0, inf)     KL(s || p)             that of KL(p || s), the other direction

    So k1 and k3 measure, and only k2 may be minimised to reach `kl_reverse`. All are 0 where student = teacher. In
    float32 k3 overflows once r exceeds 88.

    Raises ValueError on another form and on different shapes.
    Source: Schulman, joschu.net/blog/kl-approx.html, for the values; arXiv 2506.09477 for the gradients.
    """
    _checks.one_of('form', form, ('k1', 'k2', 'k3'))
    student, teacher = _rows.paired(where, student=student, teacher=teacher)
    r = teacher - student
    if form == 'k1':
        return _rows.kept(-r, where)
    return _rows.kept(0.5 * jnp.square(r) if form == 'k2' else jnp.expm1(r) - r, where)


def policy_gradient(
    log_probs: Float[Array, '*examples'],
    advantage: Float[Array, '*advantages'],
    behaviour: Float[Array, '*behaviours'] | None = None,
    *,
    clip: float | None = None,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """The loss whose gradient is -advantage * grad log_probs, token by token; the advantage is a constant.

    log_probs: of the drawn tokens under the student of now.
    behaviour: their log-probabilities under whoever drew them, a constant: then the value is -ratio * advantage with
        ratio = exp(log_probs - behaviour), and the gradient stays right when it was an older student, or a
        `log_mixture` with the teacher. Without it the student of now is taken to have drawn them.
    clip: PPO's pessimistic bound: where it is larger, the value at a ratio held within 1 - clip .. 1 + clip.

    Only the ratio of the token itself enters: that of the whole prefix, which would make it exact, is left at 1, as
    in PPO and MiniLLM.

    Raises ValueError on different shapes, and on a clip without `behaviour` or not above 0.
    Source: arXiv 1707.06347, equation 7; MiniLLM, arXiv 2306.08543, section 2.2.
    """
    if clip is not None:
        _checks.positive('clip', clip)
        if behaviour is None:
            raise ValueError(f'clip is {clip} without `behaviour`: give the log-probabilities of who drew the tokens')
    if behaviour is None:
        log_probs, advantage = _rows.paired(where, log_probs=log_probs, advantage=advantage)
        return _rows.kept(-jax.lax.stop_gradient(advantage) * log_probs, where)
    log_probs, advantage, behaviour = _rows.paired(where, log_probs=log_probs, advantage=advantage, behaviour=behaviour)
    advantage = jax.lax.stop_gradient(advantage)
    ratio = jnp.exp(log_probs - jax.lax.stop_gradient(behaviour))
    values = -advantage * ratio
    if clip is not None:
        values = jnp.maximum(values, -advantage * jnp.clip(ratio, 1 - clip, 1 + clip))
    return _rows.kept(values, where)


def log_mixture(
    student: Float[Array, '*examples'], teacher: Float[Array, '*teacher_examples'], *, alpha: float | int = 0.2
) -> Float[Array, '*examples']:
    """log(alpha p + (1 - alpha) s) from log-probabilities: of whole vocabularies to draw from, or of drawn tokens.

    As `behaviour` of a `policy_gradient` it makes the ratio s / mixture, which never exceeds 1 / (1 - alpha).
    Raises ValueError on alpha outside [0, 1] and on different shapes.
    Source: teacher-mixed sampling, MiniLLM, arXiv 2306.08543, section 2.2 (alpha = 0.2).
    """
    _checks.between('alpha', alpha, 0, 1)
    student, teacher = _rows.paired(None, student=student, teacher=teacher)
    if alpha in (0, 1):
        return teacher if alpha else student
    return jnp.logaddexp(teacher + math.log(alpha), student + math.log1p(-alpha))


def rewards_to_go(
    rewards: Float[Array, '*batch time'],
    *,
    discount: float | int = 1.0,
    after: bool = False,
    mean: bool = False,
    where: Bool[Array, '*batch time'] | None = None,
) -> Float[Array, '*batch time']:
    """R_t = sum over i >= t of discount^(i - t) r_i, along the last axis, of the tokens that count.

    after: from the next token on, sum over i > t of discount^(i - t - 1) r_i; 0 at the last.
    mean: divided by the number of rewards in the sum, MiniLLM's length normalisation.

    Not a loss. Tokens that do not count are passed over, without a discount of their own; there R is 0.
    Raises ValueError on a discount outside [0, 1] and on a mask of another shape.
    Source: MiniLLM, arXiv 2306.08543, section 2.2.
    """
    _checks.between('discount', discount, 0, 1)
    _checks.mask_shape(where, rewards.shape)
    (rewards,) = _rows.widened(rewards)
    counts = jnp.ones(rewards.shape, bool) if where is None else where
    added = _discounted(_rows.blanked(rewards, where), counts, discount, after)
    if mean:
        added = added / jnp.maximum(_discounted(jnp.ones_like(rewards), counts, 1.0, after), 1.0)
    return _rows.kept(added, where)


def group_advantages(
    rewards: Float[Array, '*prompts samples'], *, scale: bool = True
) -> Float[Array, '*prompts samples']:
    """(r - mean) / (std + 1e-4) over the samples of one prompt, std with one less in the denominator.

    Not a loss. 0 for all samples of a prompt whose rewards are equal. `scale=False` leaves out the division, which
    weighs prompts by how alike their rewards are.
    Raises ValueError on fewer than two samples.
    Source: GRPO, arXiv 2402.03300, section 4.1.2 (the divisor as in TRL); without it Dr. GRPO, arXiv 2503.20783.
    """
    if rewards.shape[-1] < 2:
        raise ValueError(f'rewards have shape {rewards.shape}: a group needs two samples or more on its last axis')
    (rewards,) = _rows.widened(rewards)
    centred = rewards - jnp.mean(rewards, axis=-1, keepdims=True)
    if not scale:
        return centred
    return centred / (jnp.std(rewards, axis=-1, keepdims=True, ddof=1) + 1e-4)


def _discounted(rewards, counts, discount: float | int, after: bool):
    """Reversed discounted sums over the tokens that count."""

    def back(carry, token):
        reward, counted = token
        here = reward + discount * carry
        return jnp.where(counted, here, carry), carry if after else here

    tokens = jnp.moveaxis(rewards, -1, 0), jnp.moveaxis(counts, -1, 0)
    _, sums = jax.lax.scan(back, jnp.zeros_like(rewards[..., 0]), tokens, reverse=True)
    return jnp.moveaxis(sums, 0, -1)
