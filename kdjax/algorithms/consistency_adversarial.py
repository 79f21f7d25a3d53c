"""The adversarial half of SANA-Sprint: one-step data of a consistency student, judged at noise by the frozen teacher.

A critic is `critic(x_t, t, condition) -> logits [batch, heads]`: heads that learn, on features of a teacher that does
not.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.schedules import Schedule
from kdjax.streams import stream

Critic = Callable[[Array, Array, Any], Array]


def noise_times(
    schedule: Schedule, count: int, *, mean: float | int, deviation: float | int, key: jax.Array
) -> Float[Array, ' count']:
    """Times of the schedule at which the logarithm of sigma / alpha is normal with this mean and deviation."""
    log_level = mean + deviation * jax.random.normal(key, (count,))
    return schedule.time_of(-2 * log_level)


def student_data(
    x: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    *,
    key: jax.Array,
    at_most_noise: float | int = 0.5,
    mean: float | int = 0.2,
    deviation: float | int = 1.6,
) -> Float[Array, 'batch *event']:
    """What the student makes of noised real examples in one step.

    at_most_noise: the probability that the noise is that of time 1, where the student samples in one step (published
        as max-time weighting); else its level is log-normal with this mean and deviation, published for data of
        deviation 0.5: add ln(2 sigma_data) for others.
    Source: SANA-Sprint, arXiv 2503.09641, section 3.3.
    """
    schedule = student.schedule
    t = noise_times(schedule, len(x), mean=mean, deviation=deviation, key=stream(key, 'time')).astype(x.dtype)
    t = jnp.where(jax.random.bernoulli(stream(key, 'most'), at_most_noise, t.shape), 1.0, t)
    x_t = schedule.noised(x, jax.random.normal(stream(key, 'noise'), x.shape, x.dtype), t)
    return student.data(x_t, t, condition)


def adversarial_consistency(
    x: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    critic: Critic,
    *,
    key: jax.Array,
    critic_mean: float | int = -0.6,
    critic_deviation: float | int = 1.0,
    **options: Any,
) -> Float[Array, ' batch']:
    """-D of the student's one-step data, noised again at a log-normal level, under the student's schedule.

    options: of `student_data`. Unbounded; the mean over heads. critic_mean: as `mean` of `student_data`.
    Source: SANA-Sprint, equation 11, and its code (train_scripts/train_scm_ladd.py); LADD, arXiv 2403.12015.
    """
    made = student_data(x, condition, student, key=stream(key, 'made'), **options)
    law = {'mean': critic_mean, 'deviation': critic_deviation}
    return losses.adversarial_generator(
        _judged(made, condition, critic, student.schedule, key=stream(key, 'fake'), **law), form='hinge'
    )


def consistency_critic(
    x: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    critic: Critic,
    *,
    key: jax.Array,
    mismatched: bool = True,
    critic_mean: float | int = -0.6,
    critic_deviation: float | int = 1.0,
    **options: Any,
) -> Float[Array, ' batch']:
    """The hinge (relu(1 - D(real)) + relu(1 + D(fake))) / 2 of the critic.

    mismatched: half of the fakes are real examples with the condition of their neighbour in the batch.
    options: of `student_data`. Range [0, inf), 1 at D = 0. Source: as `adversarial_consistency`.
    """
    made = jax.lax.stop_gradient(student_data(x, condition, student, key=stream(key, 'made'), **options))
    law = {'mean': critic_mean, 'deviation': critic_deviation}
    schedule = student.schedule
    real = _judged(x, condition, critic, schedule, key=stream(key, 'real'), **law)
    fake = _judged(made, condition, critic, schedule, key=stream(key, 'fake'), **law)
    value = losses.adversarial_discriminator(real, fake, form='hinge')
    if not mismatched:
        return value
    neighbour = jax.tree.map(lambda rows: jnp.roll(rows, 1, axis=0), condition)
    other = _judged(x, neighbour, critic, schedule, key=stream(key, 'other'), **law)
    return 0.5 * (value + losses.adversarial_discriminator(real, other, form='hinge'))


def _judged(
    x: Array, condition: Any, critic: Critic, schedule: Schedule, *, key: jax.Array, mean: Any, deviation: Any
) -> Array:
    t = noise_times(schedule, len(x), mean=mean, deviation=deviation, key=stream(key, 'time')).astype(x.dtype)
    noise = jax.random.normal(stream(key, 'noise'), x.shape, x.dtype)
    logits = critic(schedule.noised(x, noise, t), t, condition)
    return logits.reshape(len(x), -1)
