"""The rules of solvers: DDIM, Euler, Heun, DPM-Solver++(2M), EDM's stochastic sampler and that of few-step students."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from kdjax.diffusion.checks import over
from kdjax.diffusion.solving import Solver, Step
from kdjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class DDIM(Solver):
    """x_s = alpha_s data + sigma_s noise, both as expected at t; the exact step while neither changes. Order 1.

    In the noise level sigma / alpha it is Euler's method.

    eta: 0 is the ODE; 1 draws from the posterior of x_s given x_t and the data expected, which is DDPM's ancestral
        sampling (and the 'Euler ancestral' of samplers); between them, in proportion, as published.
    Raises UserError on eta outside [0, 1].
    Source: arXiv 2010.02502, equations 12 and 16, for any schedule.
    """

    eta: float | int = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise UserError(f'eta is {self.eta}: between 0 (the ODE) and 1 (ancestral)')

    @property
    def random(self) -> bool:
        return self.eta > 0

    def step(self, x: Array, memory: Any, step: Step) -> tuple[Array, Any]:
        alpha, sigma, alpha_s, sigma_s = step.levels()
        between = jnp.maximum(sigma**2 - (alpha / alpha_s * sigma_s) ** 2, 0)
        fresh = self.eta * sigma_s / sigma * jnp.sqrt(between)
        return _moved(x, step.data(x), step, fresh if self.random else None), memory


@dataclasses.dataclass(frozen=True)
class Renoise(Solver):
    """x_s = alpha_s data + sigma_s times fresh noise: how few-step students sample. Not a solver of the ODE.

    Source: multistep consistency sampling, arXiv 2303.01469, algorithm 1; DMD2, arXiv 2405.14867, section 4.4.
    """

    @property
    def random(self) -> bool:
        return True

    def step(self, x: Array, memory: Any, step: Step) -> tuple[Array, Any]:
        return _moved(x, step.data(x), step, step.levels()[3]), memory


def _moved(x: Array, data: Array, step: Step, fresh: Array | None = None) -> Array:
    """DDIM's step, with noise of standard deviation `fresh` in place of as much of the expected one."""
    alpha, sigma, alpha_s, sigma_s = step.levels()
    kept = sigma_s if fresh is None else jnp.sqrt(jnp.maximum(sigma_s**2 - fresh**2, 0))
    ratio = kept / sigma
    moved = over(ratio, x) * x + over(alpha_s - alpha * ratio, x) * data
    return moved if fresh is None else moved + over(fresh, x) * step.noise(x)


@dataclasses.dataclass(frozen=True)
class Euler(Solver):
    """x_s = x_t + (s - t) dx/dt in the schedule's own time: the sampler of flow models. Order 1."""

    def step(self, x: Array, memory: Any, step: Step) -> tuple[Array, Any]:
        return x + (step.to - step.t) * step.denoiser.velocity(x, step.t, step.condition), memory


@dataclasses.dataclass(frozen=True)
class Heun(Solver):
    """Euler's step, then the mean of the slopes at both of its ends. Order 2, two evaluations a step.

    along: 'time', the schedule's own; or 'noise', the level sigma / alpha, as EDM has it. The latter needs data in the
        first state (alpha above 0).
    lower_last: the last step is Euler's alone, with one evaluation, as at the end of it there may be no noise.
    Raises UserError on another `along`.
    Source: arXiv 2206.00364, algorithm 1.
    """

    last_apart: ClassVar[bool] = True
    along: str = 'time'
    lower_last: bool = True

    def __post_init__(self) -> None:
        _known_along(self.along)

    def evaluations(self, steps: int) -> int:
        return 2 * steps - self.lower_last

    def step(self, x: Array, memory: Any, step: Step) -> tuple[Array, Any]:
        return _heun(x, step, self.along, lower=step.last and self.lower_last), memory


@dataclasses.dataclass(frozen=True)
class DPMSolver(Solver):
    """DPM-Solver++(2M): the data expected is extrapolated from this step and the one before. Order 2.

    One evaluation a step; the first step is DDIM's.
    lower_last: so is the last, as implementations have it where steps are few or no noise is left at the end.
    Source: arXiv 2211.01095, algorithm 2.
    """

    lower_last: bool = True

    def memory(self, x: Array) -> tuple[Array, Array]:
        return jnp.zeros_like(x), jnp.zeros((), x.dtype)

    def step(self, x: Array, memory: Any, step: Step) -> tuple[Array, Any]:
        alpha, sigma, alpha_s, sigma_s = step.levels()
        before, width_before = memory
        width = jnp.log(alpha_s * sigma / (sigma_s * alpha)).astype(x.dtype)  # of half the log SNR
        usable = jnp.isfinite(width) & jnp.isfinite(width_before) & (width_before > 0)
        if self.lower_last:
            usable &= ~jnp.asarray(step.last)
        slope = jnp.where(usable, width, 0) / (2 * jnp.where(usable, width_before, 1))
        data = step.data(x)
        return _moved(x, data + over(slope, x) * (data - before), step), (data, width)


@dataclasses.dataclass(frozen=True)
class Churn(Solver):
    """EDM's stochastic sampler: up to more noise than there is, then Heun's step down in the noise level.

    churn: in units of the whole path; each step raises the noise level by min(churn / steps, sqrt(2) - 1).
    low, high: only where sigma / alpha is between them. inflation: of the noise that is added.
    lower_last: as in `Heun`. The level is raised to the schedule's end at most.
    Raises UserError on a negative churn or a range that is empty.
    Source: arXiv 2206.00364, algorithm 2 (S_churn, S_min, S_max, S_noise).
    """

    last_apart: ClassVar[bool] = True
    churn: float | int = 40.0
    low: float | int = 0.05
    high: float | int = 50.0
    inflation: float | int = 1.003
    lower_last: bool = True

    def __post_init__(self) -> None:
        if self.churn < 0 or not 0 <= self.low < self.high:
            raise UserError(f'churn {self.churn} from {self.low} to {self.high}: churn >= 0 and 0 <= low < high')

    @property
    def random(self) -> bool:
        return True

    def evaluations(self, steps: int) -> int:
        return 2 * steps - self.lower_last

    def step(self, x: Array, memory: Any, step: Step) -> tuple[Array, Any]:
        schedule = step.denoiser.schedule
        alpha, sigma = schedule.levels(step.t)
        level = sigma / alpha
        within = (level >= self.low) & (level <= self.high)
        raised = level * jnp.where(within, 1 + min(self.churn / step.steps, 2**0.5 - 1), 1)
        t = jnp.where(within, jnp.maximum(schedule.time_of(-2 * jnp.log(raised)), step.t), step.t)
        up_alpha, up_sigma = schedule.levels(t)
        added = self.inflation * jnp.sqrt(jnp.maximum((up_sigma / up_alpha) ** 2 - level**2, 0))
        x = over(up_alpha / alpha, x) * x + over(up_alpha * added, x) * step.noise(x)
        return _heun(x, dataclasses.replace(step, t=t), 'noise', lower=step.last and self.lower_last), memory


def _heun(x: Array, step: Step, along: str, *, lower: bool) -> Array:
    """One step of Heun's method, or of Euler's."""
    return _heun_in_noise(x, step, lower) if along == 'noise' else _heun_in_time(x, step, lower)


def _heun_in_time(x: Array, step: Step, lower: bool) -> Array:
    width, slope = step.to - step.t, step.denoiser.velocity(x, step.t, step.condition)
    there = x + width * slope
    if lower:
        return there
    return x + 0.5 * width * (slope + step.denoiser.velocity(there, step.to, step.condition))


def _heun_in_noise(x: Array, step: Step, lower: bool) -> Array:
    """The slope of x / alpha in sigma / alpha is the noise expected."""
    alpha, sigma, alpha_s, sigma_s = step.levels()
    data = step.data(x)
    there = _moved(x, data, step)
    if lower:
        return there
    noise = (x - over(alpha, x) * data) / over(sigma, x)
    turn = step.denoiser.noise(there, step.to, step.condition) - noise
    return there + over(0.5 * alpha_s * (sigma_s / alpha_s - sigma / alpha), x) * turn


def _known_along(along: str) -> None:
    if along not in ('time', 'noise'):
        raise UserError(f"along is {along!r}: choose 'time' or 'noise'")
