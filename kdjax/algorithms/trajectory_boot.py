"""BOOT: a student learns the teacher's whole path from its first noise, step by step, without data."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.algorithms.trajectory import grid_times, guided
from kdjax.diffusion.checks import Time, over
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.guidance import Guidance
from kdjax.errors import UserError
from kdjax.streams import stream


def signal(
    student: Denoiser, noise: Float[Array, 'batch *event'], t: Time, condition: Any = None
) -> Float[Array, 'batch *event']:
    """y(noise, t) = (x_t - sigma noise) / alpha of the path that begins at this noise, as the student says it.

    It is sigma_data times F of EDM, and the network sees the noise alone, at the scale that x_t has at t: so a
    student with the teacher's weights begins, at the noisiest time, as the teacher's data. At t = 0 it is the sample.
    Raises UserError without sigma_data.
    """
    if student.sigma_data is None:
        raise UserError(f'{student.name!r} has no sigma_data, which scales its signal: give the denoiser one')
    alpha, sigma = student.schedule.levels(t)
    seen = over(jnp.hypot(alpha * student.sigma_data, sigma), noise) * noise
    return student.sigma_data * student.predicting('edm').raw(seen, t, condition)


def bootstrapped(
    noise: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    teacher: Denoiser,
    *,
    key: jax.Array,
    steps: int = 25,
    weighted: bool = True,
    guidance: Guidance | None = None,
) -> Float[Array, ' batch']:
    """The student's signal one step on equals the teacher's DDIM step from where the student's signal says it is.

    noise: of the path's beginning, at time 1. t: uniform on a grid of `steps`, even in the student's time.
    weighted: divide by the square of the step, see `losses.boot`; without, small steps count for nothing.
    Range [0, inf), 0 on the path that DDIM takes on this grid. Two evaluations of the student, one of the teacher.
    Source: BOOT, arXiv 2306.05544, section 3.2.
    """
    schedule = student.schedule
    n, t = grid_times(steps, len(noise), key=stream(key, 'time'))
    s = (n - 1).astype(t.dtype) / steps
    (alpha, sigma), (alpha_s, sigma_s) = schedule.levels(t), schedule.levels(s)
    y = jax.lax.stop_gradient(signal(student, noise, t, condition))
    x_t = over(alpha, y) * y + over(sigma, noise) * noise
    data = guided(teacher.under(schedule), guidance).data(x_t, t, condition)
    values = losses.boot(signal(student, noise, s, condition), y, data, alpha, sigma, alpha_s, sigma_s)
    return values if weighted else values * jnp.square(1 - alpha * sigma_s / (sigma * alpha_s))


def boot_boundary(
    noise: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    teacher: Denoiser,
    *,
    guidance: Guidance | None = None,
) -> Float[Array, ' batch']:
    """The mean over features of (y(noise, 1) - the teacher's data at time 1)^2: where the path begins.

    There y is 0 / 0 by its definition, so that nothing else says it. Range [0, inf).
    Source: BOOT, arXiv 2306.05544, section 3.2.
    """
    data = guided(teacher.under(student.schedule), guidance).data(student.schedule.prior(noise), 1.0, condition)
    return losses.hint_mse(signal(student, noise, 1.0, condition), jax.lax.stop_gradient(data))
