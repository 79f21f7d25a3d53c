"""Rectified flow again: straight paths from pairs of noise and sample that a flow joins, and how straight they are."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.schedules import Flow
from kdjax.diffusion.solvers import Euler
from kdjax.diffusion.times import uniform
from kdjax.streams import stream


def reflow(
    noise: Float[Array, 'batch *event'],
    x: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    *,
    key: jax.Array,
) -> Float[Array, ' batch']:
    """Flow matching on pairs that belong together: the mean over features of (v((1 - t) x + t noise) - (noise - x))^2.

    noise, x: standard normal, and where a flow's ODE brings it; paired anew they would be plain flow matching.
    Range [0, inf), 0 for a student whose paths are the straight lines. The student is asked under `Flow`, whatever
    schedule it knows.
    Source: rectified flow, arXiv 2209.03003, section 2, and its code (ImageGeneration/losses.py); InstaFlow, arXiv
    2309.06380.
    """
    flow = student.under(Flow())
    t = jax.random.uniform(stream(key, 'time'), (len(x),), x.dtype)
    return losses.flow_matching(flow.velocity(flow.schedule.noised(x, noise, t), t, condition), x, noise)


def one_step_regression(
    noise: Float[Array, 'batch *event'], x: Float[Array, 'batch *event'], condition: Any, student: Denoiser
) -> Float[Array, ' batch']:
    """The mean over features of (the student's data at pure noise - x)^2, on pairs that a flow joins.

    Range [0, inf). Source: InstaFlow, arXiv 2309.06380, with its first, squared distance; as rectified flow's code at
    t = 0 of its own time.
    """
    return losses.hint_mse(student.data(student.schedule.prior(noise), 1.0, condition), x)


def crookedness(
    noise: Float[Array, 'batch *event'], condition: Any, student: Denoiser, *, steps: int = 16
) -> Float[Array, ' batch']:
    """The integral over t of |v - (noise - x)|^2, a mean over features, along each path of the student's own ODE.

    By `steps` Euler steps under `Flow`. Range [0, inf), 0 where the path is straight; published as straightness.
    Source: rectified flow, arXiv 2209.03003, where it measures straightness.
    """
    flow = student.under(Flow())
    path = Euler().path(flow, noise, uniform(steps), condition)
    velocities = steps * (path[:-1] - path[1:])
    away = velocities - (path[:1] - path[-1:])
    return jnp.mean(jnp.square(away), axis=(0, *range(2, away.ndim)))
