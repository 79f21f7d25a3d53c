"""An analytic student: a linear generator of Gaussian noise, whose noised law is known in closed form.

Objectives of generators are checked with it: the gradient in (matrix, shift) of a divergence between its noised law and
a teacher's is exact, so what an objective finds can be compared.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.diffusion.checks import Time
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.schedules import Schedule

Law = tuple[Float[Array, '*batch dim'], Float[Array, '*batch dim dim']]
"""Mean and covariance of a Gaussian."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LinearGenerator:
    """x = matrix z + shift, z standard normal. A pytree: differentiate in it, or stop its gradient with `constant`.

    matrix: `[dim, latent]`. shift: `[dim]`.
    """

    matrix: Array
    shift: Array

    def __call__(self, z: Float[Array, 'batch latent']) -> Float[Array, 'batch dim']:
        """The samples."""
        return z @ self.matrix.T + self.shift[None]

    def constant(self) -> 'LinearGenerator':
        """The same, without a gradient."""
        return jax.lax.stop_gradient(self)

    def law(self, schedule: Schedule, t: Time) -> Law:
        """Mean and covariance of x_t at one time."""
        alpha, sigma = schedule.levels(t)
        return alpha * self.shift, alpha**2 * self.matrix @ self.matrix.T + sigma**2 * jnp.eye(len(self.shift))

    def log_density(self, x_t: Float[Array, 'batch dim'], schedule: Schedule, t: Time) -> Float[Array, ' batch']:
        """log p_t(x_t), in nats, at one time."""
        mean, covariance = self.law(schedule, t)
        factor = jnp.linalg.cholesky(covariance)
        white = jax.scipy.linalg.solve_triangular(factor, (x_t - mean[None]).T, lower=True).T
        log_scale = jnp.sum(jnp.log(jnp.diagonal(factor)))
        return -0.5 * jnp.sum(jnp.square(white), axis=1) - log_scale - 0.5 * len(mean) * math.log(2 * math.pi)

    def denoiser(self, schedule: Schedule, name: str = 'linear generator') -> Denoiser:
        """The exact fake score: what a denoiser trained to the end on the generator's samples would be.

        Of `constant()` its parameters are held, and gradients flow through x_t only.
        """

        def data(x_t, t, condition):
            del condition
            return jax.vmap(lambda x, time: self._expected(x, schedule, time))(x_t, t)

        return Denoiser(data, schedule, 'data', name=name)

    def _expected(self, x_t, schedule: Schedule, t):
        mean, covariance = self.law(schedule, t)
        gain = schedule.alpha(t) * self.matrix @ self.matrix.T
        return self.shift + gain @ jnp.linalg.solve(covariance, x_t - mean)


def gaussian_kl(first: Law, second: Law) -> Float[Array, '']:
    """KL(first || second) in nats, in closed form."""
    (mean, covariance), (other_mean, other) = first, second
    difference = other_mean - mean
    trace = jnp.trace(jnp.linalg.solve(other, covariance))
    distance = difference @ jnp.linalg.solve(other, difference)
    logs = jnp.linalg.slogdet(other)[1] - jnp.linalg.slogdet(covariance)[1]
    return 0.5 * (trace + distance - len(mean) + logs)


def gaussian_fisher(first: Law, second: Law) -> Float[Array, '']:
    """E over the first of |score of the first - score of the second|^2, the Fisher divergence, in closed form."""
    (mean, covariance), (other_mean, other) = first, second
    slope = jnp.linalg.inv(other) - jnp.linalg.inv(covariance)
    offset = jnp.linalg.solve(other, mean - other_mean)
    return jnp.trace(slope @ covariance @ slope.T) + offset @ offset
