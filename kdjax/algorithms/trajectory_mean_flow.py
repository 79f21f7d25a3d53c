"""MeanFlow: a network says the mean velocity between two times, by its derivative along the path."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.schedules import Flow
from kdjax.streams import stream

MeanVelocity = Callable[[Array, Array, Array, Any], Array]
"""(x_t, r, t, condition) -> the mean over [r, t] of the velocity noise - data along the path through x_t, r <= t."""


def mean_velocity_matching(
    x: Float[Array, 'batch *event'],
    condition: Any,
    student: MeanVelocity,
    teacher: Denoiser | None = None,
    *,
    key: jax.Array,
    instantaneous: float | int = 0.75,
    mean: float | int = -0.4,
    deviation: float | int = 1.0,
    power: float | int = 1.0,
) -> Float[Array, ' batch']:
    """u(x_t, r, t) = v - (t - r) du/dt along the path, in the time of `Flow`, weighed as the paper does.

    x: real examples. teacher: whose velocity v is; without one v = noise - x (training without a teacher).
    t, r: the larger and the smaller of two draws of sigmoid(mean + deviation n); r = t with this probability
        (`instantaneous`), where it is flow matching. power: of the adaptive weight, see `losses.mean_flow`.
    Range [0, inf), 0 for the exact mean velocity of the teacher. One forward pass with its derivative.
    Source: MeanFlow, arXiv 2505.13447, algorithm 1 and section 4.3.
    """
    draws = mean + deviation * jax.random.normal(stream(key, 'time'), (2, len(x)), x.dtype)
    t, r = (jnp.max(jax.nn.sigmoid(draws), axis=0), jnp.min(jax.nn.sigmoid(draws), axis=0))
    r = jnp.where(jax.random.bernoulli(stream(key, 'instantaneous'), instantaneous, t.shape), t, r)
    noise = jax.random.normal(stream(key, 'noise'), x.shape, x.dtype)
    x_t = Flow().noised(x, noise, t)
    v = noise - x if teacher is None else jax.lax.stop_gradient(teacher.under(Flow()).velocity(x_t, t, condition))

    def mean_velocity(x_t: Array, r: Array, t: Array) -> Array:
        return student(x_t, r, t, condition)

    along = v, jnp.zeros_like(r), jnp.ones_like(t)
    u, derivative = jax.jvp(mean_velocity, (x_t, r, t), along)
    return losses.mean_flow(u, losses.mean_flow_target(v, derivative, t - r), power=power)


def mean_flow_sample(
    noise: Float[Array, 'batch *event'], condition: Any, student: MeanVelocity, *, steps: int = 1
) -> Float[Array, 'batch *event']:
    """From noise to data in equal steps of flow time: x_r = x_t - (t - r) u(x_t, r, t).

    Source: MeanFlow, arXiv 2505.13447, algorithm 2.
    """
    x, times = noise, [1 - i / steps for i in range(steps + 1)]
    for t, r in itertools.pairwise(times):
        at, to = (jnp.full(len(x), time, x.dtype) for time in (t, r))
        x = x - (t - r) * student(x, to, at, condition)
    return x
