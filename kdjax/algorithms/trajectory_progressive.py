"""Progressive distillation: one step of the student lands where two steps of the teacher do."""

from typing import Any

import jax
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.algorithms.trajectory import grid_times, guided, ode_step
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.guidance import Guidance
from kdjax.streams import stream


def progressive(
    x: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    teacher: Denoiser,
    *,
    key: jax.Array,
    steps: int,
    guidance: Guidance | None = None,
) -> Float[Array, ' batch']:
    """max(SNR, 1) times the squared error of the data for which one DDIM step does what two of the teacher do.

    x: real examples. steps: of the student, on a grid that is even in its time; the teacher makes twice as many.
    Range [0, inf). Two evaluations of the teacher. The student of a round, which begins with the teacher's weights,
    is the teacher of the next, at half the steps.
    Source: arXiv 2202.00512, algorithm 2.
    """
    schedule = student.schedule
    n, t = grid_times(steps, len(x), key=stream(key, 'time'))
    middle, end = (n.astype(t.dtype) - 0.5) / steps, (n - 1).astype(t.dtype) / steps
    x_t = schedule.noised(x, jax.random.normal(stream(key, 'noise'), x.shape, x.dtype), t)
    taught = guided(teacher.under(schedule), guidance)
    x_end = ode_step(taught, ode_step(taught, x_t, t, middle, condition), middle, end, condition)
    alpha, sigma = schedule.levels(t)
    target = losses.progressive_target(x_t, x_end, alpha, sigma, *schedule.levels(end))
    return losses.denoising(student.data(x_t, t, condition), target, alpha, sigma, unit='truncated_snr')
