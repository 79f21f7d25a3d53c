"""Discrete consistency: a student says the same of both ends of one step of the teacher's path."""

from typing import Any

import jax
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.algorithms.trajectory import by_step, grid_times, guided, ode_step
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.guidance import Guidance
from kdjax.streams import stream


def consistency_distillation(
    x: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    target: Denoiser,
    teacher: Denoiser | None,
    *,
    key: jax.Array,
    steps: int = 18,
    order: int = 2,
    distance: str = 'pseudo_huber',
    weighted: bool = True,
    guidance: Guidance | None = None,
) -> Float[Array, ' batch']:
    """d(f(x_t, t), sg(f'(x_s, s))), t uniform on a grid, s the time before it, x_s one step of the teacher from x_t.

    x: real examples. f: the data that the student expects; it is to be x_t itself at the end of the grid, as of a
        network that predicts 'edm' or 'trigflow' it nearly is.
    target: f', the student itself or its average. teacher: without one, x_s is x with the same noise (training).
    steps: of the grid, even in the student's time. order: of the teacher's step, and its evaluations.
    weighted: by the inverse of the step, see `by_step`, without which little is learned of fine detail in few updates;
        the first publication has no weight.
    guidance: of the teacher; the student has it baked in.
    Range [0, inf), 0 where the student is the teacher's map to the end of the grid, as `order` solves it.
    Source: consistency models, arXiv 2303.01469, algorithms 2 and 3.
    """
    schedule = student.schedule
    n, t = grid_times(steps, len(x), key=stream(key, 'time'))
    s = (n - 1).astype(t.dtype) / steps
    noise = jax.random.normal(stream(key, 'noise'), x.shape, x.dtype)
    x_t = schedule.noised(x, noise, t)
    if teacher is None:
        x_s = schedule.noised(x, noise, s)
    else:
        x_s = ode_step(guided(teacher.under(schedule), guidance), x_t, t, s, condition, order=order)
    said, wanted = student.data(x_t, t, condition), target.data(x_s, s, condition)
    weight = by_step(schedule, t, s) if weighted else None
    return losses.consistency(said, wanted, weight, distance=distance)
