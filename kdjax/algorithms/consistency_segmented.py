"""Segmented consistency: jumps to times within the segment that an example is in; segments grow stage by stage."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdjax import losses
from kdjax.algorithms.trajectory import by_step, grid_times, guided, jump, ode_step
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.guidance import Guidance
from kdjax.errors import UserError
from kdjax.streams import stream


def segment_start(n: Int[Array, ' batch'], steps: int, segments: int) -> Int[Array, ' batch']:
    """The first point of the segment that point n of a grid 0..steps is in, below n itself.

    A point between two segments belongs to the noisier end of the lower one: there is always a step below it.
    Raises UserError unless the segments have as many steps each.
    """
    if segments < 1 or steps % segments:
        raise UserError(f'{segments} segments of a grid of {steps} steps: one or more, that divide the steps')
    width = steps // segments
    return (n - 1) // width * width


def segmented_consistency(
    x: Float[Array, 'batch *event'],
    condition: Any,
    student: Denoiser,
    target: Denoiser,
    teacher: Denoiser,
    *,
    key: jax.Array,
    segments: int,
    steps: int = 32,
    order: int = 1,
    fixed_end: bool = False,
    distance: str = 'squared',
    weighted: bool = True,
    guidance: Guidance | None = None,
) -> Float[Array, ' batch']:
    """d(jump(x_t, f, t -> e), sg(jump(x_s, f', s -> e))): both ends of a teacher's step lead to the same place e.

    x: real examples. t: uniform on a grid of `steps`; s: the time before it; x_s: one step of the teacher from x_t.
    e: uniform from the start of the segment of t to s, on the grid; with `fixed_end` always the start.
    jump: DDIM's with the data that the student (f), or `target` (f'), expects. One segment is CTM without its own
        denoising loss.
    weighted: by the inverse of the step, see `by_step`; not published.
    Range [0, inf). With `fixed_end`, 0 where every jump to the start of a segment is the teacher's map, as `order`
    solves it. With random ends one prediction serves them all, so that 0 is only reached where segments have one step.
    Raises UserError on segments that do not divide the steps.
    Source: Hyper-SD, arXiv 2404.13686, equations 11 and 12, algorithm 1; CTM, arXiv 2310.02279.
    """
    schedule = student.schedule
    n, t = grid_times(steps, len(x), key=stream(key, 'time'))
    start = segment_start(n, steps, segments)
    end = start if fixed_end else jax.random.randint(stream(key, 'end'), n.shape, start, n)
    s, e = ((point.astype(t.dtype) / steps) for point in (n - 1, end))
    x_t = schedule.noised(x, jax.random.normal(stream(key, 'noise'), x.shape, x.dtype), t)
    x_s = ode_step(guided(teacher.under(schedule), guidance), x_t, t, s, condition, order=order)
    said = jump(x_t, student.data(x_t, t, condition), schedule, t, e)
    wanted = jump(x_s, target.data(x_s, s, condition), schedule, s, e)
    # at s = e = 0 of a schedule without noise there, a jump is 0 / 0: x_s is already where it leads
    at_end = jnp.reshape(n - 1 == end, (-1,) + (1,) * (x.ndim - 1))
    weight = by_step(schedule, t, s) if weighted else None
    return losses.consistency(said, jnp.where(at_end, x_s, wanted), weight, distance=distance)
