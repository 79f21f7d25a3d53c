"""Mixtures of many round Gaussians in many dimensions: the exact score at the price of two matrix products.

What `analytic.Mixture` is to a few dimensions: no axes are kept, and every condition has weights of its own.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kdjax.diffusion.checks import Time, over
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.schedules import Schedule
from kdjax.errors import UserError

Labels = Int[Array, ' batch']


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoundMixture:
    """Given condition c, sum_k weights[c, k] N(means[k], deviations[k]^2). Built by `round_mixture`.

    means: `[components, dim]`. deviations: `[components]`. log_weights: `[conditions, components]`, -inf for 0.
    """

    means: Array
    deviations: Array
    log_weights: Array

    def denoiser(self, schedule: Schedule, *, classes: int | None = None, name: str = 'round mixture') -> Denoiser:
        """The exact denoiser of x_t `[batch, *event]`, which is flattened to `[batch, dim]`.

        The condition is a row of `log_weights`. classes: the largest label that is allowed.
        """

        def data(x_t: Array, t: Array, condition: Any) -> Array:
            flat = x_t.reshape(len(x_t), -1)
            return self.data(flat, schedule, t, condition).reshape(x_t.shape)

        return Denoiser(data, schedule, 'data', classes=classes, name=name)

    def data(
        self, x_t: Float[Array, 'batch dim'], schedule: Schedule, t: Time, labels: Labels
    ) -> Float[Array, 'batch dim']:
        """E[x | x_t], also without noise."""
        alpha, sigma = _levels(schedule, t, x_t)
        gain = _gain(self, alpha, sigma)
        shares = jax.nn.softmax(self._joint(x_t, alpha, sigma, labels), axis=1)
        kept = jnp.sum(shares * gain, axis=1)
        return over(kept, x_t) * x_t + (shares * (1 - alpha[:, None] * gain)) @ self.means

    def log_density(
        self, x_t: Float[Array, 'batch dim'], labels: Labels, schedule: Schedule | None = None, t: Time = 0.0
    ) -> Float[Array, ' batch']:
        """log p_t(x_t), in nats; without a schedule that of the data."""
        return jax.nn.logsumexp(self._joint(x_t, *self._at(x_t, schedule, t), labels), axis=1)

    def responsibilities(
        self, x_t: Float[Array, 'batch dim'], labels: Labels, schedule: Schedule | None = None, t: Time = 0.0
    ) -> Float[Array, 'batch components']:
        """p(component | x_t)."""
        return jax.nn.softmax(self._joint(x_t, *self._at(x_t, schedule, t), labels), axis=1)

    def sample(self, labels: Labels, *, key: jax.Array) -> Float[Array, 'batch dim']:
        """One exact draw for each label."""
        which, normal = jax.random.split(key)
        component = jax.random.categorical(which, self.log_weights[labels], axis=1)
        noise = jax.random.normal(normal, (len(labels), self.means.shape[1]), self.means.dtype)
        return self.means[component] + self.deviations[component][:, None] * noise

    def _at(self, x_t: Array, schedule: Schedule | None, t: Time) -> tuple[Array, Array]:
        one = jnp.ones_like(x_t[:, 0])
        return (one, jnp.zeros_like(one)) if schedule is None else _levels(schedule, t, x_t)

    def _joint(self, x_t: Array, alpha: Array, sigma: Array, labels: Labels) -> Float[Array, 'batch components']:
        """log p_t(component, x_t | label)."""
        spread = _spread(self, alpha, sigma)
        a = alpha[:, None]
        own, crossed = jnp.sum(jnp.square(x_t), axis=1)[:, None], x_t @ self.means.T
        squares = own - 2 * a * crossed + jnp.square(a) * jnp.sum(jnp.square(self.means), axis=1)[None]
        scale = self.means.shape[1] * jnp.log(2 * math.pi * spread)
        return self.log_weights[labels] - 0.5 * (jnp.maximum(squares, 0) / spread + scale)


def round_mixture(means: Any, deviations: Any, weights: Any) -> RoundMixture:
    """From arrays: `[components, dim]`; one deviation or `[components]`; `[conditions, components]`, each row a law.

    Rows of weights are normalised. Raises UserError on shapes that do not match, a deviation not above 0, a negative
    weight and a condition without components.
    """
    means, weights = np.asarray(means, np.float64), np.asarray(weights, np.float64)
    if means.ndim != 2 or weights.ndim != 2 or weights.shape[1] != len(means):
        raise UserError(
            f'means have shape {means.shape}, weights {weights.shape}: give [components, dim] and '
            '[conditions, components]'
        )
    deviations = np.broadcast_to(np.asarray(deviations, np.float64), means.shape[:1])
    if not (deviations > 0).all():
        raise UserError(f'a component has deviation {deviations.min():g}: every one is above 0')
    if (weights < 0).any() or not (weights.sum(1) > 0).all():
        empty = int(np.argmin(weights.sum(1)))
        raise UserError(f'condition {empty} has weights {weights[empty].tolist()}: none below 0, and not all 0')
    shares = weights / weights.sum(1, keepdims=True)
    logs = np.where(shares > 0, np.log(np.where(shares > 0, shares, 1.0)), -np.inf)
    return RoundMixture(*(jnp.asarray(a, float) for a in (means, deviations, logs)))


def particle_law(x: Float[Array, 'batch *event'], labels: Labels, width: Float[Array, '']) -> RoundMixture:
    """The law of particles as a mixture: equal weights and deviation `width` around those of the same label.

    Its conditions are the rows of the batch: row i stands for the label of particle i. A width of 0 would make
    particles repel one another without bound where noise vanishes.
    """
    flat = x.reshape(len(x), -1)
    alike = labels[:, None] == labels[None]
    logs = jax.nn.log_softmax(jnp.where(alike, 0.0, -jnp.inf), axis=1)
    return RoundMixture(flat, jnp.broadcast_to(width, (len(x),)), logs)


def _levels(schedule: Schedule, t: Time, x_t: Array) -> tuple[Array, Array]:
    """(alpha, sigma), each `[batch]`."""
    alpha, sigma = schedule.levels(t)
    return jnp.broadcast_to(alpha, x_t.shape[:1]), jnp.broadcast_to(sigma, x_t.shape[:1])


def _spread(mixture: RoundMixture, alpha: Array, sigma: Array) -> Float[Array, 'batch components']:
    """Variances after noise."""
    return jnp.square(alpha)[:, None] * jnp.square(mixture.deviations)[None] + jnp.square(sigma)[:, None]


def _gain(mixture: RoundMixture, alpha: Array, sigma: Array) -> Float[Array, 'batch components']:
    """By how much x_t moves the data expected of each component."""
    return alpha[:, None] * jnp.square(mixture.deviations)[None] / _spread(mixture, alpha, sigma)
