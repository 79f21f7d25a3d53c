"""Guidance in one pass: a student that is told the scale says what guidance makes of two passes of its teacher.

The student is a denoiser whose condition is the pair (class, scale).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.guidance import Guidance
from kdjax.diffusion.solvers import DDIM
from kdjax.diffusion.times import Times
from kdjax.streams import stream


class Visited(NamedTuple):
    """Where guided trajectories came by, `[batch, steps, ...]`, and what was said there."""

    states: Float[Array, 'batch steps *event']
    said: Float[Array, 'batch steps *event']


def guided_by(teacher: Denoiser, scale: Float[Array, ' batch']) -> Denoiser:
    """null + scale (cond - null), a scale for each example."""
    return teacher.guided(Guidance(scale, 'from_null'), teacher.classes)


def visited(
    teacher: Denoiser,
    noise: Float[Array, 'batch *event'],
    condition: Any,
    scale: Float[Array, ' batch'],
    times: Times,
) -> Visited:
    """The states of DDIM under guidance at every time but the last, and the guided raw output at each.

    Two evaluations of the teacher a step for the trajectory, two to say what is stored.
    """
    guided = guided_by(teacher, scale)
    states = DDIM().path(guided, guided.schedule.prior(noise), times, condition)[:-1]
    said = jax.lax.map(lambda at: guided.raw(at[0], at[1], condition), (states, times[:-1]))
    return Visited(jnp.moveaxis(states, 0, 1), jnp.moveaxis(said, 0, 1))


def guidance_on_trajectories(
    states: Float[Array, 'batch steps *event'],
    said: Float[Array, 'batch steps *event'],
    times: Float[Array, 'batch steps'],
    scale: Float[Array, ' batch'],
    condition: Any,
    student: Denoiser,
    *,
    key: jax.Array,
) -> Float[Array, ' batch']:
    """The mean over features of (student's raw output - what guidance said)^2 at one stored step, uniformly drawn.

    states, said: as `visited` leaves them; times: of the steps. No evaluation of the teacher.
    Range [0, inf). Source: AGD, arXiv 2503.07274, and its code (agd/dit/train.py).
    """
    rows = jnp.arange(len(states))
    step = jax.random.randint(stream(key, 'step'), rows.shape, 0, states.shape[1])
    raw = student.raw(states[rows, step], times[rows, step], (condition, scale))
    return losses.hint_mse(raw, jax.lax.stop_gradient(said[rows, step]))


def guidance_on_noised_data(
    x: Float[Array, 'batch *event'],
    t: Float[Array, ' batch'],
    condition: Any,
    student: Denoiser,
    teacher: Denoiser,
    *,
    key: jax.Array,
    low: float | int,
    high: float | int,
) -> Float[Array, ' batch']:
    """The same error at real examples noised at times t, the scale uniform in [low, high].

    Two evaluations of the teacher. Source: Meng et al., arXiv 2210.03142, equation 2, of the raw output.
    """
    scale = jax.random.uniform(stream(key, 'scale'), (len(x),), x.dtype, low, high)
    x_t = student.schedule.noised(x, jax.random.normal(stream(key, 'noise'), x.shape, x.dtype), t)
    wanted = guided_by(teacher, scale).raw(x_t, t, condition)
    return losses.hint_mse(student.raw(x_t, t, (condition, scale)), jax.lax.stop_gradient(wanted))


def guidance_error(
    noise: Float[Array, 'batch *event'],
    condition: Any,
    scale: Float[Array, ' batch'],
    student: Denoiser,
    teacher: Denoiser,
    times: Times,
) -> Float[Array, ' batch']:
    """The error of the student's raw output along its own DDIM trajectory, a mean over features and steps."""
    states = DDIM().path(student, student.schedule.prior(noise), times, (condition, scale))[:-1]
    guided = guided_by(teacher, scale)

    def error(at: tuple[Array, Array]) -> Array:
        return losses.hint_mse(student.raw(*at, (condition, scale)), guided.raw(*at, condition))

    return jnp.mean(jax.lax.map(error, (states, times[:-1])), axis=0)
