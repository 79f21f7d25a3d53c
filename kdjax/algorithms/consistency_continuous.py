"""Continuous-time consistency in TrigFlow (sCM), for any denoiser: flows and EDM networks are turned without loss."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.algorithms.trajectory import guided
from kdjax.diffusion.denoiser import Denoiser, tangent
from kdjax.diffusion.guidance import Guidance
from kdjax.diffusion.schedules import TrigFlow
from kdjax.errors import UserError
from kdjax.models.model import Outputs
from kdjax.streams import stream
from kdjax.teachers.teacher import Teacher


def trigflow(denoiser: Denoiser) -> Denoiser:
    """The same function as a TrigFlow network F, under the TrigFlow schedule of its sigma_data.

    Raises UserError without sigma_data. Source: SANA-Sprint, arXiv 2503.09641, section 3.
    """
    if denoiser.sigma_data is None:
        raise UserError(f'{denoiser.name!r} has no sigma_data, which TrigFlow needs: give the denoiser one')
    return denoiser.under(TrigFlow(denoiser.sigma_data)).predicting('trigflow')


def log_normal_times(
    count: int, sigma_data: float | int, *, mean: float | int, deviation: float | int, key: jax.Array
) -> Float[Array, ' count']:
    """Times in [0, 1] of TrigFlow whose noise level tan(angle) sigma_data is log-normal.

    mean, deviation: of its logarithm.
    """
    level = jnp.exp(mean + deviation * jax.random.normal(key, (count,)))
    return 2 / math.pi * jnp.arctan(level / sigma_data)


def continuous_consistency(
    x: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    teacher: Denoiser | None,
    warmup: float | int | Float[Array, ''] = 1.0,
    *,
    key: jax.Array,
    mean: float | int = -1.0,
    deviation: float | int = 1.4,
    weight_by_noise: bool = False,
    form: str = 'scm',
    normalise: bool = True,
    guidance: Guidance | None = None,
) -> Float[Array, ' batch']:
    """The surrogate whose gradient moves F along the tangent cos(t) df/dt, f the data that the student expects.

    x: real or teacher-made examples. teacher: whose velocity the path follows, else that of the pair x and noise.
    warmup: r of `losses.consistency_tangent`, from 0 to 1: a number, or the prediction of `warming`; form, normalise:
        of the same.
    mean, deviation: of the logarithm of the noise level sigma / alpha; sCM's, for data of deviation 0.5.
    weight_by_noise: divide by sigma_data tan(t). sCM and SANA-Sprint do, and multiply by a learned weight w(t), whose
        minimiser, the inverse of the mean loss at t, cancels it; here no weight is learned.
    The value says nothing of quality. One forward pass of the student with its derivative, one of the teacher.
    Source: sCM, arXiv 2410.11081, algorithm 1; SANA-Sprint, arXiv 2503.09641, section 3.
    """
    student = trigflow(student)
    x_t, t, velocity = _on_path(x, condition, student, teacher, mean, deviation, guidance, key)
    output, g = tangent_of(student, x_t, t, velocity, condition, warmup=warmup, form=form, normalise=normalise)
    log_weight = jnp.zeros_like(t)
    if weight_by_noise:
        assert isinstance(student.schedule, TrigFlow) and student.sigma_data is not None
        log_weight = -jnp.log(student.sigma_data * jnp.tan(student.schedule.angle(t)))
    return losses.tangent_matching(output, g, jax.lax.stop_gradient(log_weight))


def tangents_of(
    x: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    teacher: Denoiser | None,
    *,
    key: jax.Array,
    mean: float | int = -1.0,
    deviation: float | int = 1.4,
    guidance: Guidance | None = None,
) -> Float[Array, 'batch *event']:
    """The tangents of `continuous_consistency` as they are before they are normalised, after the warm-up."""
    student = trigflow(student)
    x_t, t, velocity = _on_path(x, condition, student, teacher, mean, deviation, guidance, key)
    return tangent_of(student, x_t, t, velocity, condition, normalise=False)[1]


def tangent_of(
    student: Denoiser,
    x_t: Float[Array, 'batch *event'],
    t: Float[Array, ' batch'],
    velocity: Float[Array, 'batch *event'],
    condition: Any = None,
    **options: Any,
) -> tuple[Float[Array, 'batch *event'], Float[Array, 'batch *event']]:
    """(F, the tangent g) of a TrigFlow student at x_t, by one jvp; options of `losses.consistency_tangent`.

    velocity: dx_t / d angle.
    """
    assert isinstance(student.schedule, TrigFlow) and student.sigma_data is not None
    angle = student.schedule.angle(t)
    both = jnp.cos(angle) * jnp.sin(angle)
    dx = both.reshape(-1, *(1,) * (x_t.ndim - 1)) * velocity
    output, derivative = tangent(student, x_t, t, jax.lax.stop_gradient(dx), 2 / math.pi * both, condition)
    scale = student.sigma_data
    derivative = jax.lax.stop_gradient(derivative)
    return output, losses.consistency_tangent(output, velocity, derivative, x_t, angle, sigma_data=scale, **options)


def warming(steps: int) -> Teacher:
    """min(step / steps, 1), the r of the first steps, a scalar at the address of this teacher's name.

    Raises UserError on less than one step.
    """
    if steps < 1:
        raise UserError(f'a warm-up of {steps} steps: one or more')

    def apply(memory, frozen, view, *, key):
        return Outputs(jnp.minimum(jnp.asarray(view.step, jnp.float32) / steps, 1.0))

    return Teacher(apply)


def _on_path(
    x: Array,
    condition: Any,
    student: Denoiser,
    teacher: Denoiser | None,
    mean: float | int,
    deviation: float | int,
    guidance: Guidance | None,
    key: jax.Array,
) -> tuple[Array, Array, Array]:
    """(x_t, t, dx_t / d angle) at times and noise that are drawn here, of a student in TrigFlow."""
    schedule, scale = student.schedule, student.sigma_data
    assert isinstance(schedule, TrigFlow) and scale is not None
    t = log_normal_times(len(x), scale, mean=mean, deviation=deviation, key=stream(key, 'time'))
    noise = jax.random.normal(stream(key, 'noise'), x.shape, x.dtype)
    x_t = schedule.noised(x, noise, t)
    if teacher is None:
        return x_t, t, _velocity(x, noise, schedule.angle(t), scale)
    return x_t, t, _taught(teacher, x_t, t, condition, guidance)


def _taught(teacher: Denoiser, x_t: Array, t: Array, condition: Any, guidance: Guidance | None) -> Array:
    """dx_t / d angle of the teacher's path: sigma_data F."""
    taught = guided(trigflow(teacher), guidance)
    assert taught.sigma_data is not None
    return jax.lax.stop_gradient(taught.sigma_data * taught.raw(x_t, t, condition))


def _velocity(x: Array, noise: Array, angle: Array, scale: float | int) -> Array:
    """dx_t / d angle of one pair."""
    cos, sin = (f(angle).reshape(-1, *(1,) * (x.ndim - 1)) for f in (jnp.cos, jnp.sin))
    return cos * scale * noise - sin * x
