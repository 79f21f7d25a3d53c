"""Samplers tuned without training: the baseline that every few-step student has to beat at equal evaluations.

    measure = measured(denoiser, noise, metric, condition)   metric(samples) -> float, against a validation split
    found = tune(candidates(denoiser, nfe=8), measure)
    found = refine(found.best, measure)                      and its grid of times, one time after another

What is tuned, on a network that stays as it is: the solver and its order, how times are spaced, the noise at which
sampling stops, and whether the last state or the data expected there is returned.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.schedules import Schedule
from kdjax.diffusion.solvers import DDIM, DPMSolver, Heun
from kdjax.diffusion.solving import Solver
from kdjax.diffusion.times import Times, by_noise, falling, power
from kdjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A solver with its grid, called as `sampler(denoiser, noise, condition, key=key)`.

    times: falling. to_data: return the data expected at the last time. name: for reports.
    """

    solver: Solver
    times: tuple[float, ...]
    to_data: bool = False
    name: str = 'sampler'

    def __call__(
        self,
        denoiser: Denoiser,
        noise: Float[Array, 'batch *event'],
        condition: Any = None,
        *,
        key: jax.Array | None = None,
    ) -> Float[Array, 'batch *event']:
        """Samples from standard normal noise."""
        start = denoiser.schedule.sigma(self.times[0]) * noise
        return self.solver(denoiser, start, self.grid(), condition, key=key, to_data=self.to_data)

    def grid(self) -> Times:
        return jnp.asarray(self.times, float)

    def nfe(self, denoiser: Denoiser) -> int:
        """Evaluations of the network for one sample."""
        return self.solver.nfe(denoiser, self.grid(), to_data=self.to_data)


Measure = Callable[[Sampler], float]
"""The less the better, on data that no result is reported on; the same noise for every sampler."""


@dataclasses.dataclass(frozen=True)
class Tuned:
    """best: the sampler found. value: its measure. trials: every (name, value) on the way, in order."""

    best: Sampler
    value: float
    trials: tuple[tuple[str, float], ...]


def measured(
    denoiser: Denoiser,
    noise: Float[Array, 'batch *event'],
    metric: Callable[[Array], Any],
    condition: Any = None,
    *,
    key: jax.Array | None = None,
) -> Measure:
    """The metric of a sampler's samples from this noise, one compiled program for all grids of as many times.

    metric: samples `[batch, ...]` -> a number, the less the better.
    """

    @partial(jax.jit, static_argnums=(0, 1))
    def samples(solver: Solver, to_data: bool, grid, noise, condition, key):
        start = denoiser.schedule.sigma(grid[0]) * noise
        return solver(denoiser, start, grid, condition, key=key, to_data=to_data)

    def measure(sampler: Sampler) -> float:
        falling(sampler.grid())
        return float(metric(samples(sampler.solver, sampler.to_data, sampler.grid(), noise, condition, key)))

    return measure


def published_end(
    schedule: Schedule, *, ladder: int, rho: float | int, kept: int, ends: tuple[float, float] | None = None
) -> tuple[float, float]:
    """(first, last) time of the published grid: those of the first and of the `kept`-th level of a Karras ladder.

    ladder: its points, from the most noise to the least. ends: (least, most) sigma / alpha, by default the schedule's.
    Raises UserError where the ends of the schedule are not finite and `ends` are not given.
    Source: arXiv 2510.02390, from its authors' code (customed_sampler.py): (12, 7, 9) for 8 steps of second order,
    (8, 5, 6) for 5 and 6 of first.
    """
    if ends is None:
        (least_alpha, least), (most_alpha, most) = schedule.levels(0.0), schedule.levels(1.0)
        if not (least > 0 and most_alpha > 0):
            raise UserError(
                f'the schedule {schedule.name!r} ends without noise or without data: pass ends=(least, most) sigma / '
                'alpha, such as (0.03, 15)'
            )
        ends = float(least / least_alpha), float(most / most_alpha)
    if not (0 < ends[0] < ends[1] and 0 < kept < ladder):
        raise UserError(f'level {kept} of {ladder} between {ends}: 0 < least < most and 0 < kept < points')
    low, high = (level ** (1 / rho) for level in ends)
    level = (high + kept / (ladder - 1) * (low - high)) ** rho
    first, last = (float(schedule.time_of(-2 * math.log(value))) for value in (ends[1], level))
    return first, last


def published(
    schedule: Schedule, steps: int, *, to_data: bool = False, ends: tuple[float, float] | None = None
) -> Sampler:
    """The published sampler: times spaced by rho = 1.2 down to little noise, where it stops.

    7 steps or more: DPM-Solver++(2M) whose last step is of second order too; fewer: first order.
    to_data: the data expected at the end, in one more evaluation; without a decoder that absorbs the noise left, it is
        needed.
    Source: as `published_end`.
    """
    many = steps > 6
    first, last = published_end(
        schedule, ladder=12 if many else 8, rho=7 if many else 5, kept=9 if many else 6, ends=ends
    )
    solver = DPMSolver(lower_last=False) if many else DDIM()
    times = power(steps, 1.2, start=first, end=last)
    return Sampler(solver, _floats(times), to_data, 'published' + ('+data' if to_data else ''))


def candidates(
    denoiser: Denoiser,
    nfe: int,
    *,
    start: float = 1.0,
    ends: tuple[float, ...] = (0.0, 0.02, 0.05),
    rhos: tuple[float, ...] = (1.0, 1.2, 2.0, 3.0),
) -> list[Sampler]:
    """Samplers of exactly `nfe` evaluations: first order, second order, and Heun's, on every grid.

    ends: last times; where it is above 0 the data expected there is returned, which costs one evaluation.
    rhos: spacings of times; and EDM's grid with rho 7 where the first time has any data.
    Raises UserError on an `nfe` that no sampler can have.
    """
    budget = nfe // denoiser.calls
    if budget < 2 or nfe % denoiser.calls:
        raise UserError(
            f'{nfe} evaluations of {denoiser.name!r}, {denoiser.calls} at a time: a multiple, twice or more'
        )
    found = []
    for end in ends:
        to_data = end > 0
        for solver, steps in _solvers(budget - to_data):
            for label, grid in _grids(denoiser.schedule, steps, start, end, rhos).items():
                name = f'{type(solver).__name__}, {label}, to {end:g}'
                found.append(Sampler(solver, _floats(grid), to_data, name))
    return found


def _grids(schedule: Schedule, steps: int, start: float, end: float, rhos: tuple[float, ...]) -> dict[str, Times]:
    grids = {f'power {rho:g}': power(steps, rho, start=start, end=end) for rho in rhos}
    if schedule.alpha(start) > 0:
        grids['noise 7'] = by_noise(schedule, steps, start=start, end=end)
    return grids


def _solvers(evaluations: int) -> list[tuple[Solver, int]]:
    """Solvers and the steps that they make of so many evaluations."""
    solvers: list[tuple[Solver, int]] = [(DDIM(), evaluations), (DPMSolver(), evaluations)]
    if evaluations % 2:
        solvers.append((Heun(), (evaluations + 1) // 2))
    return solvers


def tune(candidates: Iterable[Sampler], measure: Measure, denoiser: Denoiser | None = None) -> Tuned:
    """The candidate of least measure; the first of equals, and none whose measure is not a number.

    denoiser: to check that all cost the same.
    Raises UserError without candidates, on unequal costs, and where no measure is a number.
    """
    samplers = list(candidates)
    if not samplers:
        raise UserError('nothing to tune: give one candidate or more')
    if denoiser is not None:
        costs = {sampler.nfe(denoiser) for sampler in samplers}
        if len(costs) > 1:
            raise UserError(f'candidates cost {sorted(costs)} evaluations: compare samplers of equal cost')
    values = [float(measure(sampler)) for sampler in samplers]
    best = min(range(len(values)), key=lambda i: math.inf if math.isnan(values[i]) else values[i])
    if not math.isfinite(values[best]):
        raise UserError(f'no measure of {len(values)} samplers is finite: look at the samples of one of them')
    trials = tuple((sampler.name, value) for sampler, value in zip(samplers, values, strict=True))
    return Tuned(samplers[best], values[best], trials)


def refine(sampler: Sampler, measure: Measure, *, rounds: int = 2, moves: tuple[float, ...] = (0.5, 0.2)) -> Tuned:
    """Its grid of times, each but the first moved towards either neighbour while that lowers the measure.

    moves: shares of the gap to the neighbour, tried in turn. rounds: passes over the times.
    The cost of a sample stays the same. It measures 2 x rounds x shares x steps times at most.
    """
    best, value = sampler, float(measure(sampler))
    trials = [(sampler.name, value)]
    for turn in range(rounds):
        before = value
        for share in moves:
            for i in range(1, len(sampler.times)):
                for moved in _moves(best, i, share):
                    found = float(measure(moved))
                    trials.append((f'{sampler.name}, round {turn + 1}, time {i}', found))
                    if found < value:
                        best, value = moved, found
        if value == before:
            break
    return Tuned(best, value, tuple(trials))


def _moves(sampler: Sampler, i: int, share: float) -> list[Sampler]:
    """Time i towards the one before it and the one after it, which for the last is 0; none if it is 0 already."""
    times = sampler.times
    after = times[i + 1] if i + 1 < len(times) else 0.0
    targets = [t for t in (times[i - 1], after) if t != times[i]] if times[i] > 0 else []
    moved = [times[i] + share * (target - times[i]) for target in targets]
    return [dataclasses.replace(sampler, times=(*times[:i], t, *times[i + 1 :])) for t in moved]


def _floats(times: Times) -> tuple[float, ...]:
    return tuple(float(t) for t in times)
