"""Mixtures of Gaussians whose score, denoiser and density are known exactly at every noise level.

Usable wherever a network is: `mixture.denoiser(schedule)`. Class-conditional where the components have classes: a label
selects the components of its class, the null class (`classes`) and None all of them.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kdjax.diffusion.checks import Time, labels_in_range
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.schedules import Schedule
from kdjax.errors import UserError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mixture:
    """Built by `isotropic` or `full`.

    weights: `[components]`, adding up to 1.
    means: `[components, dim]`.
    variances: `[components, dim]`, along the principal axes of each component.
    axes: `[components, dim, dim]`, those axes as columns.
    component_classes: `[components]`, or None without classes.
    classes: how many; the null class is `classes`.
    """

    weights: Array
    means: Array
    variances: Array
    axes: Array
    component_classes: Array | None = None
    classes: int | None = dataclasses.field(default=None, metadata={'static': True})

    def under(self, schedule: Schedule) -> 'Noised':
        """What becomes of it as noise is added."""
        return Noised(self, schedule)

    def denoiser(self, schedule: Schedule, name: str = 'mixture') -> Denoiser:
        """The exact denoiser."""
        exact = Noised(self, schedule)
        return Denoiser(exact.data, schedule, 'data', classes=self.classes, name=name)

    def log_density(
        self, x: Float[Array, 'batch dim'], labels: Int[Array, ' batch'] | None = None
    ) -> Float[Array, ' batch']:
        """log p(x), in nats, without noise."""
        one = jnp.ones_like(x[:, 0])
        return jax.nn.logsumexp(_joint(self, x, one, jnp.zeros_like(one), labels), axis=1)

    def sample(
        self, count: int, *, key: jax.Array, labels: Int[Array, ' count'] | None = None
    ) -> Float[Array, 'count dim']:
        """Exact draws, of the given classes."""
        return self.sample_labelled(count, key=key, labels=labels)[0]

    def sample_labelled(
        self, count: int, *, key: jax.Array, labels: Int[Array, ' count'] | None = None
    ) -> tuple[Float[Array, 'count dim'], Int[Array, ' count']]:
        """Exact draws and the class of each, or its component where there are no classes."""
        which, normal = jax.random.split(key)
        logits = jnp.broadcast_to(_log_weights(self, labels), (count, len(self.weights)))
        component = jax.random.categorical(which, logits, axis=1)
        noise = jax.random.normal(normal, (count, self.means.shape[1]), self.means.dtype)
        spread = jnp.sqrt(self.variances)[component] * noise
        x = self.means[component] + jnp.einsum('bij,bj->bi', self.axes[component], spread)
        return x, component if self.component_classes is None else self.component_classes[component]

    def mean(self) -> Float[Array, ' dim']:
        """Of all components."""
        return self.weights @ self.means

    def covariance(self) -> Float[Array, 'dim dim']:
        """Of all components together."""
        within = jnp.einsum('k,kij,kj,klj->il', self.weights, self.axes, self.variances, self.axes)
        centred = self.means - self.mean()[None]
        return within + jnp.einsum('k,ki,kj->ij', self.weights, centred, centred)


@dataclasses.dataclass(frozen=True)
class Noised:
    """A mixture under a schedule. Methods take (x_t `[batch, dim]`, t, labels `[batch]` or None)."""

    mixture: Mixture
    schedule: Schedule

    def log_density(self, x_t: Float[Array, 'batch dim'], t: Time, labels: Any = None) -> Float[Array, ' batch']:
        """log p_t(x_t), in nats."""
        return jax.nn.logsumexp(self._joint(x_t, t, labels), axis=1)

    def responsibilities(
        self, x_t: Float[Array, 'batch dim'], t: Time, labels: Any = None
    ) -> Float[Array, 'batch components']:
        """p(component | x_t)."""
        return jax.nn.softmax(self._joint(x_t, t, labels), axis=1)

    def data(self, x_t: Float[Array, 'batch dim'], t: Time, labels: Any = None) -> Float[Array, 'batch dim']:
        """E[x | x_t], also at t = 0 and t = 1."""
        alpha, sigma = self._levels(x_t, t)
        along, spread = self._along(x_t, alpha, sigma)
        gain = alpha[:, None, None] * self.mixture.variances[None] / spread
        moved = self.mixture.means[None] + jnp.einsum('kij,bkj->bki', self.mixture.axes, gain * along)
        return jnp.einsum('bk,bki->bi', self.responsibilities(x_t, t, labels), moved)

    def score(self, x_t: Float[Array, 'batch dim'], t: Time, labels: Any = None) -> Float[Array, 'batch dim']:
        """The gradient in x_t of `log_density`, finite at t = 0 too."""
        along, spread = self._along(x_t, *self._levels(x_t, t))
        each = -jnp.einsum('kij,bkj->bki', self.mixture.axes, along / spread)
        return jnp.einsum('bk,bki->bi', self.responsibilities(x_t, t, labels), each)

    def ode_map(self, x_t: Float[Array, 'batch dim'], t: Time, to: Time) -> Float[Array, 'batch dim']:
        """Where the probability-flow ODE brings x_t from time t to time `to`, exactly.

        Along each principal axis, the number of standard deviations from the mean is kept. Raises UserError for a
        mixture of several components, whose map has no closed form.
        """
        if len(self.mixture.weights) != 1:
            raise UserError(
                f'the exact ODE map of {len(self.mixture.weights)} components: it is known for one Gaussian only, '
                'solve the ODE with a fine grid instead'
            )
        along, before = self._along(x_t, *self._levels(x_t, t))
        alpha, sigma = self._levels(x_t, to)
        after = self._spread(alpha, sigma)
        moved = jnp.einsum('kij,bkj->bki', self.mixture.axes, along * jnp.sqrt(after / before))
        return alpha[:, None] * self.mixture.means + moved[:, 0]

    def sample(self, count: int, t: Time, *, key: jax.Array, labels: Any = None) -> Float[Array, 'count dim']:
        """Exact draws of x_t."""
        clean, noise = jax.random.split(key)
        x = self.mixture.sample(count, key=clean, labels=labels)
        return self.schedule.noised(x, jax.random.normal(noise, x.shape, x.dtype), t)

    def _levels(self, x_t, t: Time) -> tuple[Array, Array]:
        """(alpha, sigma), each `[batch]`."""
        alpha, sigma = self.schedule.levels(t)
        return jnp.broadcast_to(alpha, x_t.shape[:1]), jnp.broadcast_to(sigma, x_t.shape[:1])

    def _spread(self, alpha, sigma):
        return _spread(self.mixture, alpha, sigma)

    def _along(self, x_t, alpha, sigma):
        return _along(self.mixture, x_t, alpha), self._spread(alpha, sigma)

    def _joint(self, x_t, t: Time, labels):
        return _joint(self.mixture, x_t, *self._levels(x_t, t), labels)


def isotropic(means: Any, deviation: Any, *, weights: Any = None, component_classes: Any = None) -> Mixture:
    """Round components.

    means: `[components, dim]`. deviation: one standard deviation, or `[components]`.
    weights: `[components]`, any positive numbers; equal by default. component_classes: `[components]`, 0, 1, ...
    Raises UserError on shapes that do not match, and on numbers that are not positive.
    """
    means = np.asarray(means, float)
    if means.ndim != 2:
        raise UserError(f'means have shape {means.shape}: give [components, dim]')
    deviation = np.asarray(deviation, float)
    if deviation.ndim > 1 or (deviation.ndim == 1 and deviation.shape != means.shape[:1]):
        raise UserError(f'deviations have shape {deviation.shape}, means {means.shape}: give one, or one a component')
    variances = np.broadcast_to(np.square(deviation)[..., None], means.shape)
    axes = np.broadcast_to(np.eye(means.shape[1]), (*means.shape, means.shape[1]))
    return _mixture(means, variances, axes, weights, component_classes)


def full(means: Any, covariances: Any, *, weights: Any = None, component_classes: Any = None) -> Mixture:
    """Components of any covariance, `[components, dim, dim]`; the rest as in `isotropic`."""
    means, covariances = np.asarray(means, float), np.asarray(covariances, float)
    if means.ndim != 2 or covariances.shape != (*means.shape, means.shape[1]):
        raise UserError(
            f'means have shape {means.shape}, covariances {covariances.shape}: give [components, dim] and '
            '[components, dim, dim]'
        )
    if not np.allclose(covariances, np.swapaxes(covariances, 1, 2)):
        raise UserError('a covariance is not symmetric: give A @ A.T for any matrix A')
    variances, axes = np.linalg.eigh(covariances)
    return _mixture(means, variances, axes, weights, component_classes)


def gaussian(mean: Any, covariance: Any) -> Mixture:
    """One Gaussian, whose ODE map is exact. mean: `[dim]`; covariance: `[dim, dim]`."""
    return full(np.asarray(mean, float)[None], np.asarray(covariance, float)[None])


def _mixture(means, variances, axes, weights, component_classes) -> Mixture:
    weights = np.ones(len(means)) if weights is None else np.asarray(weights, float)
    if weights.shape != means.shape[:1] or not (weights > 0).all():
        raise UserError(f'weights {weights.tolist()} of {len(means)} components: give one positive number each')
    if not (variances > 0).all():
        raise UserError(f'a component has variance {variances.min():g}: every direction needs one above 0')
    classes = None
    if component_classes is not None:
        component_classes = np.asarray(component_classes)
        classes = int(component_classes.max()) + 1
        if component_classes.shape != means.shape[:1] or set(component_classes.tolist()) != set(range(classes)):
            raise UserError(
                f'classes {component_classes.tolist()} of {len(means)} components: give each one of 0, 1, ... and '
                'leave none out'
            )
        component_classes = jnp.asarray(component_classes, jnp.int32)
    weights, means, variances, axes = (jnp.asarray(a, float) for a in (weights / weights.sum(), means, variances, axes))
    return Mixture(weights, means, variances, axes, component_classes, classes)


def _log_weights(mixture: Mixture, labels) -> Float[Array, 'batch components']:
    """log p(component | label), `[1, components]` without labels."""
    logs = jnp.log(mixture.weights)[None]
    if labels is None:
        return logs
    if mixture.classes is None or mixture.component_classes is None:
        raise UserError('labels for a mixture without classes: build it with component_classes=')
    labels_in_range(labels, mixture.classes, 'mixture')
    chosen = (mixture.component_classes[None] == labels[:, None]) | (labels == mixture.classes)[:, None]
    return jax.nn.log_softmax(jnp.where(chosen, logs, -jnp.inf), axis=1)


def _spread(mixture: Mixture, alpha, sigma) -> Float[Array, 'batch components dim']:
    """Variances along the axes after noise."""
    return jnp.square(alpha)[:, None, None] * mixture.variances[None] + jnp.square(sigma)[:, None, None]


def _along(mixture: Mixture, x_t, alpha) -> Float[Array, 'batch components dim']:
    """x_t less each component's mean, along its axes."""
    centred = x_t[:, None] - alpha[:, None, None] * mixture.means[None]
    return jnp.einsum('kij,bki->bkj', mixture.axes, centred)


def _joint(mixture: Mixture, x_t, alpha, sigma, labels) -> Float[Array, 'batch components']:
    """log p_t(component, x_t | label)."""
    spread = _spread(mixture, alpha, sigma)
    squares = jnp.square(_along(mixture, x_t, alpha)) / spread
    return _log_weights(mixture, labels) - 0.5 * jnp.sum(squares + jnp.log(spread) + math.log(2 * math.pi), axis=2)
