"""Grids of times for solvers: `[steps + 1]`, falling from `start` to `end`.

`start` and `end` are times, and exactly the ends of the grid. All numbers but `steps` may be traced.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdjax.diffusion.checks import concrete
from kdjax.diffusion.schedules import Schedule
from kdjax.errors import UserError

Number = Float[Array, ''] | float | int
Times = Float[Array, ' times']


def uniform(steps: int, *, start: Number = 1.0, end: Number = 0.0) -> Times:
    """Evenly spaced in time."""
    return power(steps, 1.0, start=start, end=end)


def power(steps: int, rho: Number, *, start: Number = 1.0, end: Number = 0.0) -> Times:
    """Evenly spaced in t^(1 / rho): the larger rho, the denser near `end`."""
    _sensible(steps, start, end)
    return _with_ends(_between(steps, rho, jnp.asarray(start, float), jnp.asarray(end, float)), start, end)


def by_noise(schedule: Schedule, steps: int, *, rho: Number = 7.0, start: Number = 1.0, end: Number = 0.0) -> Times:
    """Evenly spaced in (sigma / alpha)^(1 / rho), EDM's grid, under any schedule.

    Raises UserError where alpha(start) is 0: start a little before the end of time.
    Source: arXiv 2206.00364, equation 5.
    """
    _sensible(steps, start, end)
    (first_alpha, first_sigma), (last_alpha, last_sigma) = schedule.levels(start), schedule.levels(end)
    _visible(first_alpha, 'alpha', start, schedule)
    levels = _between(steps, rho, first_sigma / first_alpha, last_sigma / last_alpha)
    return _with_ends(schedule.time_of(-2 * jnp.log(levels)), start, end)


def by_log_snr(schedule: Schedule, steps: int, *, start: Number = 1.0, end: Number = 0.0) -> Times:
    """Evenly spaced in log SNR. Raises UserError where either end has none of the data, or none of the noise.

    Source: DPM-Solver, arXiv 2206.00927, section 3.4.
    """
    _sensible(steps, start, end)
    _visible(schedule.alpha(start), 'alpha', start, schedule)
    _visible(schedule.sigma(end), 'sigma', end, schedule)
    share = jnp.arange(steps + 1) / steps
    first, last = schedule.log_snr(start), schedule.log_snr(end)
    return _with_ends(schedule.time_of(first + share * (last - first)), start, end)


def falling(times: Times) -> None:
    """A UserError unless concrete times are two or more in [0, 1], each below the one before."""
    if times.ndim != 1 or len(times) < 2:
        raise UserError(f'times have shape {times.shape}: a solver needs [steps + 1] of them, two or more')
    if concrete(times) and not (np.diff(np.asarray(times)) < 0).all():
        raise UserError(
            f'times {np.round(np.asarray(times), 4).tolist()} do not fall: sampling runs from noise (1) to data (0)'
        )


def _between(steps: int, rho: Number, first, last):
    root = 1 / jnp.asarray(rho, first.dtype)
    share = jnp.arange(steps + 1, dtype=first.dtype) / steps
    return (first**root + share * (last**root - first**root)) ** jnp.asarray(rho, first.dtype)


def _with_ends(times, start: Number, end: Number) -> Times:
    return times.at[0].set(start).at[-1].set(end)


def _sensible(steps: int, start: Number, end: Number) -> None:
    if steps < 1:
        raise UserError(f'a grid of {steps} steps: one or more')
    if concrete(start) and concrete(end) and not 0 <= float(end) < float(start) <= 1:
        raise UserError(f'a grid from {start} to {end}: 0 <= end < start <= 1, as sampling runs from noise to data')


def _visible(level, what: str, t: Number, schedule: Schedule) -> None:
    if concrete(level) and not float(level) > 0:
        remedy = 'start a little below it' if what == 'alpha' else 'end a little above it'
        raise UserError(f'{what} is 0 at time {t} of the schedule {schedule.name!r}: {remedy}, such as by 0.001')
