"""A discriminator that is a head on the features of the fake score, and what is made of its logits.

A judge is `(x_t, t, condition) -> logits`, positive for real. Real and generated samples are noised alike before it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.algorithms.generators.noising import EVERYWHERE, MIDDLE, Noising
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.schedules import Schedule
from kdjax.streams import stream
from kdjax.view import Function

Judge = Callable[[Array, Array, Any], Array]


def judge(network: Function, head: Function, *, tap: str = 'bottleneck') -> Judge:
    """The head on a tap of a network `(x_t, t, condition)`."""
    return lambda x_t, t, condition: head(network((x_t, t, condition)).taps[tap]).prediction


def discrimination(
    x: Float[Array, 'batch *event'],
    data: Float[Array, 'batch *event'],
    condition: Any,
    judge: Judge,
    schedule: Schedule,
    *,
    noising: Noising = EVERYWHERE,
    key: jax.Array,
) -> Float[Array, ' batch']:
    """What the judge minimises: softplus(-l(data_t)) + softplus(l(x_t)), x and data constant, of one condition.

    Trained to the end, l = log p(x_t) / q(x_t), the law of the data over that of the samples.
    Source: DMD2, arXiv 2405.14867, section 4.3, and its code (compute_cls_logits).
    """
    seen = (noising(jax.lax.stop_gradient(a), schedule, key=stream(key, n)) for n, a in (('real', data), ('fake', x)))
    real, fake = (judge(x_t, t, condition) for x_t, t in seen)
    return losses.adversarial_discriminator(real, fake)


def persuasion(
    x: Float[Array, 'batch *event'],
    condition: Any,
    judge: Judge,
    schedule: Schedule,
    *,
    noising: Noising = EVERYWHERE,
    key: jax.Array,
) -> Float[Array, ' batch']:
    """What the generator minimises: softplus(-l(x_t)); gradients reach x through the judge. Source: DMD2."""
    return losses.adversarial_generator(judge(*noising(x, schedule, key=key), condition))


def divergence_matching(
    x: Float[Array, 'batch *event'],
    condition: Any,
    real: Denoiser,
    fake: Denoiser,
    judge: Judge,
    *,
    divergence: str = 'jensen_shannon',
    noising: Noising = MIDDLE,
    clip: tuple[float, float] | None = (0.1, 20.0),
    bins: int = 10,
    normalise: bool = True,
    normaliser: str = 'sample',
    weight: Callable[[Array, Array], Array] | None = None,
    key: jax.Array,
) -> Float[Array, ' batch']:
    """f-distill: distribution matching, each sample weighed by h(r), r = exp of the judge's logit at the same x_t.

    The judge tells data, not the teacher's law, from samples, so r is p_data / q.
    clip: of r, before anything else.
    bins: then r is divided by its mean over the batch in each of so many equal parts of time; 0: not. The release
        averages these means over steps where its decay is not 0 (0.5 on ImageNet, 0 on CIFAR-10, which is this); its
        time is sigma under EDM, here it is the schedule's own.
    divergence, normalise: see `losses.f_weight`; 'kl_reverse' is distribution matching.
    Source: arXiv 2502.15681, table 1, and NVlabs/FastGen, methods/distribution_matching/f_distill.py.
    """
    x_t, t = noising(jax.lax.stop_gradient(x), real.schedule, key=key)
    logits = judge(x_t, t, condition)
    ratio = jnp.exp(jnp.clip(jnp.mean(logits.reshape(len(logits), -1), axis=1), -10.0, 10.0))
    if clip is not None:
        ratio = jnp.clip(ratio, *clip)
    if bins:
        ratio, _ = losses.by_time(ratio, t, jnp.ones(bins))
    scale = losses.f_weight(ratio, divergence=divergence, clip=None, normalise=normalise)
    if weight is not None:
        scale = scale * weight(*real.schedule.levels(t))
    said = real.data(x_t, t, condition), fake.data(x_t, t, condition)
    return losses.distribution_matching(x, *said, scale, normaliser=normaliser)
