"""Denoising: what a score network learns, and how much each noise level counts.

A noised sample is x_t = alpha x + sigma eps. Everything is stated for a prediction of x; the weight of a level says in
which unit the error is measured, so that one function serves networks that predict anything.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _checks, _rows, _samples

UNITS = ('data', 'noise', 'v', 'flow', 'edm', 'truncated_snr')


def denoising_weight(
    alpha: Float[Array, '*batch'], sigma: Float[Array, '*levels'], *, unit: str = 'noise', sigma_data: float | int = 0.5
) -> Float[Array, '*batch']:
    """How much the squared error of x counts at each noise level; not a loss.

    'data': 1. 'noise': alpha^2 / sigma^2 (the SNR), which measures the error of eps. 'v': (alpha^2 + sigma^2)^2 /
    sigma^2, that of v = alpha eps - sigma x. 'flow': (alpha + sigma)^2 / sigma^2, that of eps - x. 'edm': (s^2 + d^2) /
    (s d)^2 with s = sigma / alpha and d = `sigma_data` (arXiv 2206.00364, table 1). 'truncated_snr': max(SNR, 1)
    (arXiv 2202.00512, section 4).

    Raises ValueError on another unit and on a sigma_data not above 0.
    """
    _checks.one_of('unit', unit, UNITS)
    _checks.positive('sigma_data', sigma_data)
    if sigma.shape != alpha.shape:
        raise ValueError(f'sigma has shape {sigma.shape}, alpha {alpha.shape}: give one of each for each example')
    alpha, sigma = _rows.widened(alpha, sigma)
    if unit == 'data':
        return jnp.ones_like(alpha)
    if unit == 'v':
        return jnp.square((jnp.square(alpha) + jnp.square(sigma)) / sigma)
    if unit == 'flow':
        return jnp.square((alpha + sigma) / sigma)
    if unit == 'edm':
        return jnp.square(alpha / sigma) + 1 / sigma_data**2
    snr = jnp.square(alpha / sigma)
    return jnp.maximum(snr, 1.0) if unit == 'truncated_snr' else snr


def denoising(
    prediction: Float[Array, 'batch ...'],
    x: Float[Array, '...'],
    alpha: Float[Array, '*alphas'],
    sigma: Float[Array, '*sigmas'],
    *,
    unit: str = 'noise',
    sigma_data: float | int = 0.5,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """weight(alpha, sigma) times the mean over features of (prediction - x)^2, see `denoising_weight`.

    prediction: of x from x_t. x is differentiated too: a generator's samples have to be stopped before.
    Range [0, inf), 0 where prediction = x; its minimiser is the posterior mean of x, whatever the weight.
    Raises ValueError on different shapes and on another unit.
    Source: denoising score matching, Vincent 2011; the weights as in `denoising_weight`.
    """
    prediction, x = _samples.samples(where, prediction=prediction, x=x)
    alpha, sigma = (a.reshape(-1) for a in _samples.levels(x, where, alpha=alpha, sigma=sigma))
    weight = denoising_weight(alpha, sigma, unit=unit, sigma_data=sigma_data)
    return _rows.kept(weight * _samples.means(jnp.square(prediction - x)), where)


def flow_matching(
    velocity: Float[Array, 'batch ...'],
    x: Float[Array, '...'],
    noise: Float[Array, '...'],
    *,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """The mean over features of (velocity - (noise - x))^2: of the straight path from x at t = 0 to noise at t = 1.

    Noise drawn apart from x gives flow matching; pairs (noise, x) that an ODE joins give reflow, which straightens it.
    Range [0, inf). Raises ValueError on different shapes.
    Source: rectified flow, arXiv 2209.03003, equation 1, whose time runs the other way.
    """
    velocity, x, noise = _samples.samples(where, velocity=velocity, x=x, noise=noise)
    return _rows.kept(_samples.means(jnp.square(velocity - (noise - x))), where)
