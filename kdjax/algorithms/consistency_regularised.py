"""rCM's other half: the student's own rollouts are matched to the teacher by the difference of two scores."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.algorithms.trajectory import guided
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.guidance import Guidance
from kdjax.diffusion.schedules import Flow, Schedule
from kdjax.errors import UserError
from kdjax.streams import stream


def shifted_times(
    schedule: Schedule, shape: tuple[int, ...], *, shift: float | int, key: jax.Array
) -> Float[Array, '...']:
    """Times of the schedule at which flow time is s u / (1 + (s - 1) u), u uniform: the larger s, the more noise."""
    u = jax.random.uniform(key, shape, minval=1e-3, maxval=1 - 1e-3)
    return schedule.time_of(Flow().log_snr(shift * u / (1 + (shift - 1) * u)))


def rollout(
    noise: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    *,
    key: jax.Array,
    steps: int = 4,
    shift: float | int = 5.0,
) -> Float[Array, 'batch *event']:
    """Samples of N steps from pure noise: data, noised again at a lower time, and so on; N uniform in 1..`steps`.

    N is drawn for each example (in the code it goes round with the iterations); each of the times between is the lower
    one of the time before and a draw of `shifted_times`. Gradients flow through the last step alone. The student is
    evaluated `steps` times. Raises UserError without a step.
    Source: rCM, arXiv 2510.08431, section 4.1, and its code (`backward_simulation`).
    """
    if steps < 1:
        raise UserError(f'a rollout of {steps} steps: one or more')
    schedule = student.schedule
    first = jax.random.randint(stream(key, 'first'), (len(noise),), 0, steps)
    drawn = shifted_times(schedule, (steps, len(noise)), shift=shift, key=stream(key, 'between'))
    x, t = schedule.prior(noise), jnp.ones(len(noise), noise.dtype)
    for i in range(steps - 1):
        data = jax.lax.stop_gradient(student.data(x, t, condition))
        fresh = jax.random.normal(stream(key, 'fresh', i), x.shape, x.dtype)
        begun = i >= first
        t = jnp.where(begun, jnp.minimum(drawn[i].astype(t.dtype), t), t)
        x = jnp.where(begun.reshape(-1, *(1,) * (x.ndim - 1)), schedule.noised(data, fresh, t), x)
    return student.data(x, t, condition)


def score_regularisation(
    noise: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    teacher: Denoiser,
    fake: Denoiser,
    *,
    key: jax.Array,
    steps: int = 4,
    shift: float | int = 5.0,
    guidance: Guidance | None = None,
) -> Float[Array, ' batch']:
    """Distribution matching on rollouts: 1/2 (x - sg(x - g))^2, g = (fake - real) / mean |x - real|.

    fake: the data that a network expects which follows the rollouts, see `follows_rollouts`. shift: of all times.
    The value says nothing of quality. One evaluation of the fake and of the teacher (two with guidance).
    The published loss is twice this one, summed over features like its consistency term, whose weight is 100 times as
    large: 0.02 of this mean beside the mean of `continuous_consistency` is the published proportion.
    Source: rCM, arXiv 2510.08431, equation 6, and its code; DMD, arXiv 2311.18828.
    """
    schedule = student.schedule
    x = rollout(noise, condition, student, key=stream(key, 'rollout'), steps=steps, shift=shift)
    x_t, t = _noised(x, schedule, shift, key)
    real = guided(teacher.under(schedule), guidance).data(x_t, t, condition)
    return losses.distribution_matching(x, real, fake.under(schedule).data(x_t, t, condition))


def follows_rollouts(
    noise: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    fake: Denoiser,
    *,
    key: jax.Array,
    steps: int = 4,
    shift: float | int = 5.0,
    sigma_data: float | int | None = None,
) -> Float[Array, ' batch']:
    """The fake score's denoising loss on rollouts, in units of F: rCM's TrigFlow matching, |x - fake|^2 / sin^2 t.

    sigma_data: that of the fake unless given. Source: as `score_regularisation`.
    """
    scale = fake.sigma_data if sigma_data is None else sigma_data
    if scale is None:
        raise UserError(f'{fake.name!r} has no sigma_data, the unit of its error: give it, or the denoiser, one')
    schedule = fake.schedule
    x = rollout(noise, condition, student, key=stream(key, 'rollout'), steps=steps, shift=shift)
    x = jax.lax.stop_gradient(x)
    x_t, t = _noised(x, schedule, shift, key)
    alpha, sigma = schedule.levels(t)
    return losses.denoising(fake.data(x_t, t, condition), x, alpha, sigma, unit='edm', sigma_data=scale)


def _noised(x: Array, schedule: Schedule, shift: float | int, key: jax.Array) -> tuple[Array, Array]:
    t = shifted_times(schedule, (len(x),), shift=shift, key=stream(key, 'time')).astype(x.dtype)
    noise = jax.random.normal(stream(key, 'noise'), x.shape, x.dtype)
    return jax.lax.stop_gradient(schedule.noised(x, noise, t)), t
