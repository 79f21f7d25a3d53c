"""A round Gaussian at 0, its paths and its networks in closed form. Under Karras alpha is 1, under `Flow` 1 - t."""

import jax
import jax.numpy as jnp

from kdjax import diffusion

S = 0.7
"""The standard deviation of the data."""
SCALE = 0.5
"""The sigma_data that networks assume; not S, so that nothing is right by chance."""
KARRAS = diffusion.Karras(0.05, 20.0)
KEY = jax.random.key(3)


def gaussian():
    return diffusion.isotropic([[0.0, 0.0]], S)


def teacher(schedule=KARRAS):
    return gaussian().denoiser(schedule)


def over(values, x):
    return values[:, None] * x


def saying(data, schedule=KARRAS):
    """A denoiser of a function (x_t, t) -> data."""
    return diffusion.Denoiser(lambda x, t, c: data(x, t), schedule, 'data', sigma_data=SCALE)


def ddim_factor(sigma, sigma_to):
    """x_to / x_t of one DDIM step under Karras."""
    return (S**2 + sigma * sigma_to) / (S**2 + sigma**2)


def grid_factor(n, to, steps):
    """x_to / x_t of DDIM's steps on the grid, from point n down to point `to`, `[batch]` each; n - to <= steps."""
    factor = jnp.ones(n.shape)
    for i in range(steps):
        sigma, sigma_to = (KARRAS.sigma(jnp.maximum(point, 0) / steps) for point in (n - i, n - i - 1))
        factor = jnp.where(n - i > to, factor * ddim_factor(sigma, sigma_to), factor)
    return factor


def data_of_jump(factor, sigma, sigma_to):
    """The data / x_t for which DDIM's step from sigma to sigma_to is this factor."""
    kept = sigma_to / sigma
    return (factor - kept) / (1 - kept)


def points(count=64, key=KEY):
    x = S * jax.random.normal(key, (count, 2))
    return x, jax.random.normal(jax.random.fold_in(key, 1), x.shape)


def mean_and_error(values):
    """The mean over examples and its standard error."""
    return jnp.mean(values, axis=0), jnp.std(values, axis=0) / len(values) ** 0.5
