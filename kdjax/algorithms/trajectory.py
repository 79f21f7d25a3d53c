"""What objectives along a teacher's path share: networks as denoisers, and steps between times of each example's own.

An objective is `loss(*arrays, *denoisers, key=..., **options) -> [batch]`; a term hands networks over as functions:

    term(asking(progressive, task.denoiser), 'batch.data', 'batch.condition', 'student()', 'teacher()', steps=8)
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.diffusion.checks import over
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.guidance import Guidance
from kdjax.diffusion.schedules import Schedule
from kdjax.errors import UserError

Loss = Callable[..., jax.Array]


def asking(loss: Loss, denoiser: Callable[..., Denoiser]) -> Loss:
    """The loss as a term calls it: every network among what it reads becomes `denoiser(network, name)`.

    The name, for errors, is 'network 1' for the first, and so on.
    """

    @functools.wraps(loss)
    def asked(*reads: Any, **options: Any) -> jax.Array:
        networks = [read for read in reads if callable(read)]
        known = {id(network): denoiser(network, f'network {i}') for i, network in enumerate(networks, 1)}
        return loss(*(known.get(id(read), read) for read in reads), **options)

    return asked


def guided(teacher: Denoiser, guidance: Guidance | None) -> Denoiser:
    """The teacher under classifier-free guidance, its null class being `classes`; itself without guidance."""
    return teacher if guidance is None else teacher.guided(guidance, teacher.classes)


def grid_times(steps: int, count: int, *, key: jax.Array) -> tuple[Array, Array]:
    """(n `[count]`, uniform in 1..steps, and its time n / steps), on a grid that is even in the schedule's time.

    Raises UserError on a grid without steps.
    """
    if steps < 1:
        raise UserError(f'a grid of {steps} steps: one or more')
    n = jax.random.randint(key, (count,), 1, steps + 1)
    return n, n.astype(jnp.float32) / steps


def by_step(schedule: Schedule, t: Float[Array, ' batch'], s: Float[Array, ' batch']) -> Float[Array, ' batch']:
    """1 / (level at t - level at s), levels being sigma / alpha: with it the short steps near the data count.

    A weight of consistency losses. Source: improved consistency training, arXiv 2310.14189, equation 5.
    """
    (alpha, sigma), (alpha_s, sigma_s) = schedule.levels(t), schedule.levels(s)
    return 1 / (sigma / alpha - sigma_s / alpha_s)


def jump(
    x_t: Float[Array, 'batch *event'],
    data: Float[Array, 'batch *event'],
    schedule: Schedule,
    t: Float[Array, ' batch'],
    to: Float[Array, ' batch'],
) -> Float[Array, 'batch *event']:
    """DDIM's step from t to `to` with this data expected; x_t itself where they are the same. sigma(t) is above 0.

    Source: arXiv 2010.02502, equation 12; its use with a student's data, CTM, arXiv 2310.02279, equation 9.
    """
    (alpha, sigma), (alpha_to, sigma_to) = schedule.levels(t), schedule.levels(to)
    kept = sigma_to / sigma
    return over(kept, x_t) * x_t + over(alpha_to - alpha * kept, x_t) * data


def ode_step(
    teacher: Denoiser,
    x_t: Float[Array, 'batch *event'],
    t: Float[Array, ' batch'],
    to: Float[Array, ' batch'],
    condition: Any = None,
    *,
    order: int = 1,
) -> Float[Array, 'batch *event']:
    """One step of the teacher's ODE: DDIM's, or with order 2 Heun's in the noise level; a constant.

    order: 1 or 2, also the evaluations of the teacher. Raises UserError on another.
    Source: arXiv 2010.02502, equation 12; arXiv 2206.00364, algorithm 1.
    """
    if order not in (1, 2):
        raise UserError(f'a step of order {order}: 1 (DDIM) or 2 (Heun)')
    schedule = teacher.schedule
    data = teacher.data(x_t, t, condition)
    there = jump(x_t, data, schedule, t, to)
    if order == 1:
        return jax.lax.stop_gradient(there)
    (alpha, sigma), (alpha_to, sigma_to) = schedule.levels(t), schedule.levels(to)
    noise = (x_t - over(alpha, x_t) * data) / over(sigma, x_t)
    turn = teacher.noise(there, to, condition) - noise
    return jax.lax.stop_gradient(there + over(0.5 * alpha_to * (sigma_to / alpha_to - sigma / alpha), x_t) * turn)
