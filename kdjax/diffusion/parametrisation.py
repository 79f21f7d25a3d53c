"""What the raw output of a network means: one table, from which every conversion follows.

Each prediction is a weighted sum of the data and the noise, as x_t itself is:

    raw = a data + b noise,    x_t = alpha data + sigma noise

    prediction   a                              b                          raw
    noise        0                              1                          noise ('epsilon')
    data         1                              0                          data ('x0')
    v            -sigma                         alpha                      v of progressive distillation
    flow         -1                             1                          noise - data
    trigflow     -sigma / (sigma_data r)        alpha sigma_data / r       F of TrigFlow
    edm          sigma / (sigma_data r)         -alpha sigma_data / r      F of EDM: data = c_skip x_t + c_out F

with r^2 = alpha^2 sigma_data^2 + sigma^2. `edm` and `trigflow` are written for any schedule: they do not change when
x_t is rescaled. At alpha = 1, and at TrigFlow's own levels, they are the papers'. A conversion is undefined where its
source does not determine the result: `noise` at alpha = 0, `data` at sigma = 0.
"""

from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.diffusion.checks import over
from kdjax.errors import UserError, unknown

Prediction = Literal['noise', 'data', 'v', 'flow', 'edm', 'trigflow']
PREDICTIONS: tuple[str, ...] = get_args(Prediction)
Level = Float[Array, '...']


class Weights(NamedTuple):
    """Of the data and of the noise."""

    data: Level
    noise: Level


def known_prediction(prediction: str | None, who: str = 'a denoiser', sigma_data: float | int | None = None) -> None:
    """A UserError unless the prediction is stated, known, and has the `sigma_data` that it needs."""
    if prediction is None:
        raise UserError(f'{who} does not say what its network predicts: pass predicts= one of {", ".join(PREDICTIONS)}')
    if prediction not in PREDICTIONS:
        raise unknown('prediction', prediction, PREDICTIONS)
    if prediction in ('edm', 'trigflow') and sigma_data is None:
        raise UserError(f'{who} predicts {prediction!r} without sigma_data: pass the standard deviation of the data')
    if sigma_data is not None and not sigma_data > 0:
        raise UserError(f'sigma_data of {who} is {sigma_data}: it is the standard deviation of the data, above 0')


def weights(prediction: str, alpha: Level, sigma: Level, sigma_data: float | int | None = None) -> Weights:
    """The row of the table, at some levels. Raises UserError on an unknown prediction or a missing `sigma_data`."""
    known_prediction(prediction, 'a conversion', sigma_data)
    one, zero = jnp.ones_like(alpha), jnp.zeros_like(alpha)
    if prediction == 'noise':
        return Weights(zero, one)
    if prediction == 'data':
        return Weights(one, zero)
    if prediction == 'v':
        return Weights(-sigma, alpha)
    if prediction == 'flow':
        return Weights(-one, one)
    assert sigma_data is not None
    spread = jnp.hypot(alpha * sigma_data, sigma)
    data, noise = sigma / (sigma_data * spread), -alpha * sigma_data / spread
    return Weights(data, noise) if prediction == 'edm' else Weights(-data, -noise)


def carried(
    raw: Float[Array, 'batch *event'],
    x_t: Float[Array, 'batch *event'],
    source: Weights,
    target: Weights,
    alpha: Level,
    sigma: Level,
) -> Float[Array, 'batch *event']:
    """From one weighted sum of data and noise to another: what is known is `raw` and x_t, two equations for the two."""
    determinant = source.data * sigma - source.noise * alpha
    of_raw = (target.data * sigma - target.noise * alpha) / determinant
    of_x_t = (source.data * target.noise - source.noise * target.data) / determinant
    return over(of_raw, raw) * raw + over(of_x_t, x_t) * x_t


def convert(
    raw: Float[Array, 'batch *event'],
    x_t: Float[Array, 'batch *event'],
    source: str,
    target: str,
    *,
    alpha: Level,
    sigma: Level,
    sigma_data: float | int | None = None,
) -> Float[Array, 'batch *event']:
    """One prediction as another; `raw` itself where they are the same.

    alpha, sigma: [] or [batch], the levels of x_t.
    Raises UserError on an unknown prediction, and on 'edm' or 'trigflow' without `sigma_data`.
    Source: arXiv 2202.00512 (v), 2206.00364 (EDM), 2209.03003 (flow), 2410.11081 (TrigFlow).
    """
    sources = weights(source, alpha, sigma, sigma_data)
    targets = weights(target, alpha, sigma, sigma_data)
    return raw if source == target else carried(raw, x_t, sources, targets, alpha, sigma)


class Preconditioning(NamedTuple):
    """data = c_skip x_t + c_out F(c_in x_t, c_noise). All have the shape of sigma."""

    skip: Level
    out: Level
    into: Level
    noise: Level


def preconditioning(sigma: Level, sigma_data: float | int) -> Preconditioning:
    """EDM's coefficients at alpha = 1. `c_noise` is log(sigma) / 4. Source: arXiv 2206.00364, table 1."""
    known_prediction('edm', 'preconditioning', sigma_data)
    spread = jnp.hypot(sigma, jnp.full_like(sigma, sigma_data))
    return Preconditioning(
        skip=(sigma_data / spread) ** 2,
        out=sigma * sigma_data / spread,
        into=1 / spread,
        noise=0.25 * jnp.log(sigma),
    )
