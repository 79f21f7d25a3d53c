"""Matching distributions by the difference of two scores: reverse KL, and f-divergences by a weight of each sample.

With x the generator's sample, `real` and `fake` predict x from the same x_t = alpha x + sigma eps: one for the
teacher's law, one for the generator's. Both are constants here; the gradient reaches x as it stands.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _checks, _rows, _samples

DIVERGENCES = {
    'kl_reverse': lambda r: jnp.ones_like(r),
    'kl_forward': lambda r: r,
    'jensen_shannon': lambda r: r / (1 + r),
    'squared_hellinger': jnp.sqrt,
    'jeffreys': lambda r: 1 + r,
    'softened_kl_reverse': lambda r: 1 / (1 + r),
    'neyman': lambda r: 1 / r,
}
"""h(r) = r^2 f''(r) up to a constant, for D_f = E_q f(p / q)."""


def distribution_matching(
    x: Float[Array, 'batch ...'],
    real: Float[Array, '...'],
    fake: Float[Array, '...'],
    weight: Float[Array, '*weights'] | None = None,
    *,
    normaliser: str = 'sample',
    floor: float = 1e-5,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """1/2 the mean over features of (x - sg(x - g))^2, whose gradient in x is g / features.

        g = weight * (fake - real) / n,   n = mean |x - real| over the features of each sample, or 1

    weight: of each sample, a constant. alpha^2 / sigma^2 with normaliser='none' gives the gradient of KL(q_t || p_t) at
        that noise level; Diff-Instruct (arXiv 2305.18455) takes 1 in its code; `f_weight` gives other divergences.
    normaliser: 'sample' (DMD, DMD2) or 'none'. floor: the least n, where DMD's code has none and drops the NaN.

    The value is 1/2 mean g^2: it says nothing about quality. 0, without gradient, where fake = real.
    Raises ValueError on different shapes and on another normaliser.
    Source: DMD, arXiv 2311.18828, equations 7-8; DMD2, arXiv 2405.14867, and its code (main/edm/edm_guidance.py).
    """
    _checks.one_of('normaliser', normaliser, ('sample', 'none'))
    x, real, fake = _samples.samples(where, x=x, real=real, fake=fake)
    scale = _samples.weights(x, where, weight)
    if normaliser == 'sample':
        scale = scale / jnp.maximum(_samples.means(jnp.abs(x - real)), floor)
    step = jax.lax.stop_gradient(_samples.along(scale, x) * (fake - real))
    return _rows.kept(_surrogate(x, step, _samples.means), where)


def _surrogate(x, step, reduce):
    """1/2 (x - sg(x - step))^2 reduced: its value is that of step^2 / 2, its gradient step."""
    return reduce(0.5 * jnp.square(x - jax.lax.stop_gradient(x) + step))


def f_weight(
    ratio: Float[Array, 'batch'],
    *,
    divergence: str = 'jensen_shannon',
    clip: tuple[float, float] | None = (0.1, 20.0),
    normalise: bool = True,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """The weight that turns distribution matching into the gradient of D_f = E_q f(p / q); not a loss.

    ratio: p(x_t) / q(x_t), data over generator: exp of the logit of a discriminator that was trained to tell them.
    divergence: a name in `DIVERGENCES`; constants in h are left out. clip: of the ratio, before h.
    normalise: by the mean over the batch (of the examples that count), so that divergences compare at one step size.
    A constant to every gradient. Raises ValueError on an unknown divergence.
    Source: f-distill, arXiv 2502.15681, table 1, and NVlabs/FastGen, methods/distribution_matching/f_distill.py.
    """
    _checks.one_of('divergence', divergence, tuple(DIVERGENCES))
    _checks.mask_shape(where, ratio.shape)
    (ratio,) = _rows.widened(jax.lax.stop_gradient(ratio))
    ratio = ratio if where is None else jnp.where(where, ratio, jnp.ones_like(ratio))
    if clip is not None:
        ratio = jnp.clip(ratio, *clip)
    weight = _rows.kept(DIVERGENCES[divergence](ratio), where)
    if not normalise:
        return weight
    mean = jnp.mean(weight) if where is None else jnp.sum(weight) / _rows.count(where.astype(weight.dtype))
    return weight / jnp.where(mean > 0, mean, 1.0)


def by_time(
    ratio: Float[Array, 'batch'],
    t: Float[Array, '*times'],
    bins: Float[Array, 'bins'],
    *,
    decay: float | int = 0.0,
    where: Bool[Array, '...'] | None = None,
) -> tuple[Float[Array, 'batch'], Float[Array, 'bins']]:
    """The ratio divided by its running mean in the sample's bin of time, and the means afterwards; not a loss.

    bins: means over equal parts of [0, 1], ones at first; part of the train state. Bins that no sample falls into stay
    as they are; the others become decay * bin + (1 - decay) * mean of this batch, before they divide.
    Raises ValueError on a decay outside [0, 1] and on times of another shape.
    Source: the first normalisation of f-distill, see `f_weight`.
    """
    _checks.between('decay', decay, 0, 1)
    if t.shape != ratio.shape:
        raise ValueError(f't has shape {t.shape}, the ratio {ratio.shape}: give one time for each example')
    _checks.mask_shape(where, ratio.shape)
    ratio, t, bins = _rows.widened(jax.lax.stop_gradient(ratio), t, bins)
    counts = jnp.ones_like(ratio) if where is None else where.astype(ratio.dtype)
    ratio = ratio if where is None else jnp.where(where, ratio, jnp.ones_like(ratio))
    place = jnp.clip(jnp.floor(_rows.blanked(t, where) * len(bins)), 0, len(bins) - 1).astype(jnp.int32)
    hits = jnp.zeros_like(bins).at[place].add(counts)
    found = jnp.zeros_like(bins).at[place].add(counts * ratio) / jnp.maximum(hits, 1.0)
    bins = jnp.where(hits > 0, decay * bins + (1 - decay) * found, bins)
    return _rows.kept(ratio / bins[place], where), bins


def em_distillation(
    generated: Float[Array, 'batch ...'],
    x_t: Float[Array, '...'],
    alpha: Float[Array, '*alphas'],
    sigma: Float[Array, '*sigmas'],
    *,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """|sg(x_t) - alpha generated|^2 / (2 sigma^2), summed over features: the M-step of EM distillation.

    generated: g(z) at the end of the chain; x_t: the noised sample there, a constant, made by the same generator:
    x_t = alpha g(z) + sigma eps. The gradient in `generated` is -(alpha / sigma) eps. After one Langevin step of eps at
    size s, with z held, it is s times the gradient of KL(q_t || p_t) in expectation.
    Range [0, inf), 0 without noise. Raises ValueError on different shapes.
    Source: after EMD, arXiv 2405.16852; derived, as its equations were not read and no code is public.
    """
    generated, x_t = _samples.samples(where, generated=generated, x_t=x_t)
    alpha, sigma = _samples.levels(x_t, where, alpha=alpha, sigma=sigma)
    noise = (jax.lax.stop_gradient(x_t) - alpha * generated) / sigma
    return _rows.kept(_samples.sums(0.5 * jnp.square(noise)), where)
