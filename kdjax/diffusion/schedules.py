"""Noise schedules: x_t = alpha(t) x + sigma(t) noise, with t from 0 (data) to 1 (noise).

A time is one float or one for each example. Concrete times outside [0, 1] are refused; traced ones cannot be checked.
"""

import abc
import dataclasses
import math
from collections.abc import Iterable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdjax.diffusion.checks import Time, concrete, over, time_of_schedule
from kdjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """How much data and how much noise there is at each time."""

    name: ClassVar[str]

    @abc.abstractmethod
    def _levels(self, t: Float[Array, '*times']) -> tuple[Float[Array, '*times'], Float[Array, '*times']]:
        """(alpha, sigma) of times in [0, 1]."""

    @abc.abstractmethod
    def time_of(self, log_snr: Float[Array, '*times'] | float | int) -> Float[Array, '*times']:
        """The inverse of `log_snr`, in closed form; levels beyond the schedule's ends give the nearer end."""

    def levels(self, t: Time) -> tuple[Float[Array, '...'], Float[Array, '...']]:
        """(alpha, sigma). Raises UserError on a concrete time outside [0, 1]."""
        return self._levels(time_of_schedule(t, self.name))

    def alpha(self, t: Time) -> Float[Array, '...']:
        """The weight of the data."""
        return self.levels(t)[0]

    def sigma(self, t: Time) -> Float[Array, '...']:
        """The weight of the noise, that is its standard deviation."""
        return self.levels(t)[1]

    def log_snr(self, t: Time) -> Float[Array, '...']:
        """log(alpha^2 / sigma^2), falling with t; infinite where one of the two is 0."""
        alpha, sigma = self.levels(t)
        return 2 * (jnp.log(alpha) - jnp.log(sigma))

    def rates(self, t: Time) -> tuple[Float[Array, '...'], Float[Array, '...']]:
        """(d alpha / dt, d sigma / dt), exact. That of a variance-preserving sigma is infinite where sigma is 0."""
        t = time_of_schedule(t, self.name)
        return jax.jvp(self._levels, (t,), (jnp.ones_like(t),))[1]

    def noised(
        self, x: Float[Array, 'batch *event'], noise: Float[Array, 'batch *event'], t: Time
    ) -> Float[Array, 'batch *event']:
        """x_t = alpha(t) x + sigma(t) noise."""
        alpha, sigma = self.levels(t)
        return over(alpha, x) * x + over(sigma, x) * noise

    def prior(self, noise: Float[Array, 'batch *event']) -> Float[Array, 'batch *event']:
        """Where sampling starts: sigma(1) times standard normal noise."""
        return self.sigma(1.0) * noise


@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """Variance preserving, alpha = cos(angle), sigma = sin(angle), the angle linear in t.

    log_snr_max, log_snr_min: of t = 0 and t = 1; infinite ones give exactly alpha = cos(pi t / 2).
    Source: arXiv 2202.00512 (progressive distillation, whose code holds log SNR within -20 and 20).
    """

    name: ClassVar[str] = 'cosine'
    log_snr_max: float | int = 20.0
    log_snr_min: float | int = -20.0

    def __post_init__(self) -> None:
        if not self.log_snr_min < self.log_snr_max:
            raise UserError(f'log SNR from {self.log_snr_max} down to {self.log_snr_min}: it has to fall with time')

    def _complements(self) -> tuple[float, float]:
        """The angle at t = 0, and pi / 2 less the angle at t = 1."""
        return math.atan(math.exp(-self.log_snr_max / 2)), math.atan(math.exp(self.log_snr_min / 2))

    def _levels(self, t):
        first, last = self._complements()
        span = math.pi / 2 - first - last
        return jnp.sin(last + span * (1 - t)), jnp.sin(first + span * t)

    def time_of(self, log_snr):
        first, last = self._complements()
        angle = jnp.arctan(jnp.exp(-0.5 * jnp.asarray(log_snr)))
        return jnp.clip((angle - first) / (math.pi / 2 - first - last), 0, 1)


@dataclasses.dataclass(frozen=True)
class Linear(Schedule):
    """Variance preserving, with beta(t) linear: the continuous form of DDPM's 1000 betas, each times 1000.

    log alpha(t) = -t^2 (beta_max - beta_min) / 4 - t beta_min / 2. Source: arXiv 2011.13456, equation 33.
    """

    name: ClassVar[str] = 'linear'
    beta_min: float | int = 0.1
    beta_max: float | int = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min < self.beta_max:
            raise UserError(f'betas from {self.beta_min} to {self.beta_max}: 0 < beta_min < beta_max')

    def _levels(self, t):
        log_alpha = -0.25 * t * t * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min
        return jnp.exp(log_alpha), jnp.sqrt(-jnp.expm1(2 * log_alpha))

    def time_of(self, log_snr):
        decay = jax.nn.softplus(-jnp.asarray(log_snr))  # -log alpha^2
        root = jnp.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * decay)
        return jnp.clip(2 * decay / (self.beta_min + root), 0, 1)


@dataclasses.dataclass(frozen=True)
class Discrete(Schedule):
    """Variance preserving, through the steps of a list of betas: step n of N is t = n / (N - 1).

    Exact at the steps; between them log SNR is linear in t, as samplers interpolate it. At t = 0 there is the noise
    of the first step, which is not 0.
    """

    name: ClassVar[str] = 'discrete'
    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.betas) < 2 or not all(0 < b < 1 for b in self.betas):
            raise UserError(f'{len(self.betas)} betas: give two or more, each between 0 and 1')

    @classmethod
    def from_betas(cls, betas: Iterable[float]) -> 'Discrete':
        """Of any sequence of numbers."""
        return cls(tuple(float(b) for b in betas))

    @classmethod
    def scaled_linear(cls, start: float = 0.00085, end: float = 0.012, steps: int = 1000) -> 'Discrete':
        """Betas whose square roots are evenly spaced; the defaults are Stable Diffusion's."""
        roots = [start**0.5 + (end**0.5 - start**0.5) * n / (steps - 1) for n in range(steps)]
        return cls(tuple(r * r for r in roots))

    @property
    def steps(self) -> int:
        return len(self.betas)

    def step_of(self, t: Time) -> Float[Array, '...']:
        """The step that a network trained on integers is told, in [0, N - 1], not rounded."""
        return time_of_schedule(t, self.name) * (self.steps - 1)

    def _knots(self) -> list[float]:
        """log SNR of every step."""
        log_alpha_bar, knots = 0.0, []
        for beta in self.betas:
            log_alpha_bar += math.log1p(-beta)
            knots.append(log_alpha_bar - math.log(-math.expm1(log_alpha_bar)))
        return knots

    def _levels(self, t):
        log_snr = self._interpolated(t)
        return jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))

    def _interpolated(self, t):
        times = jnp.arange(self.steps, dtype=t.dtype) / (self.steps - 1)
        return jnp.interp(t, times, jnp.asarray(self._knots(), t.dtype))

    def log_snr(self, t: Time) -> Float[Array, '...']:
        return self._interpolated(time_of_schedule(t, self.name))

    def time_of(self, log_snr):
        log_snr = jnp.asarray(log_snr, jnp.result_type(float, log_snr))
        knots = jnp.asarray(self._knots()[::-1], log_snr.dtype)
        return jnp.interp(log_snr, knots, jnp.arange(self.steps, dtype=log_snr.dtype)[::-1] / (self.steps - 1))


@dataclasses.dataclass(frozen=True)
class Karras(Schedule):
    """EDM: alpha = 1, sigma the ladder from sigma_min (t = 0) to sigma_max (t = 1), linear in sigma^(1 / rho).

    Source: arXiv 2206.00364, equation 5 and table 1.
    """

    name: ClassVar[str] = 'karras'
    sigma_min: float | int = 0.002
    sigma_max: float | int = 80.0
    rho: float | int = 7.0

    def __post_init__(self) -> None:
        if not (0 < self.sigma_min < self.sigma_max and self.rho > 0):
            raise UserError(
                f'sigma from {self.sigma_min} to {self.sigma_max} with rho {self.rho}: '
                '0 < sigma_min < sigma_max and rho > 0'
            )

    def _levels(self, t):
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return jnp.ones_like(t), (low + t * (high - low)) ** self.rho

    def log_snr(self, t: Time) -> Float[Array, '...']:
        return -2 * jnp.log(self.sigma(t))

    def time_of(self, log_snr):
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        root = jnp.exp(-0.5 / self.rho * jnp.asarray(log_snr))
        return jnp.clip((root - low) / (high - low), 0, 1)

    def time_of_sigma(self, sigma: Float[Array, '*times'] | float | int) -> Float[Array, '*times']:
        """The time at which the noise has this standard deviation.

        Raises UserError on a concrete sigma outside [sigma_min, sigma_max].
        """
        _sigma_in_range(sigma, self.sigma_min, self.sigma_max)
        return self.time_of(-2 * jnp.log(jnp.asarray(sigma, jnp.result_type(float, sigma))))


def _sigma_in_range(sigma, low: float, high: float) -> None:
    if not concrete(sigma):
        return
    values, slack = np.asarray(sigma), 1e-5  # the ladder's own ends, in float32
    outside = (values < low * (1 - slack)) | (values > high * (1 + slack))
    if outside.any():
        raise UserError(
            f"sigma {values[outside].flat[0]:g} is outside [{low:g}, {high:g}] of the schedule 'karras': "
            'clip it, or build the schedule with a wider range'
        )


@dataclasses.dataclass(frozen=True)
class Flow(Schedule):
    """The straight line of rectified flow and flow matching: alpha = 1 - t, sigma = t. Source: arXiv 2209.03003."""

    name: ClassVar[str] = 'flow'

    def _levels(self, t):
        return 1 - t, t

    def log_snr(self, t: Time) -> Float[Array, '...']:
        t = time_of_schedule(t, self.name)
        return 2 * (jnp.log1p(-t) - jnp.log(t))

    def time_of(self, log_snr):
        return jax.nn.sigmoid(-0.5 * jnp.asarray(log_snr, jnp.result_type(float, log_snr)))


@dataclasses.dataclass(frozen=True)
class TrigFlow(Schedule):
    """alpha = cos(pi t / 2), sigma = sigma_data sin(pi t / 2): the variance stays that of the data.

    The papers' angle is pi t / 2 and their z is sigma_data times our noise.
    sigma_data: the standard deviation of the data.
    Source: arXiv 2410.11081, section 3.
    """

    name: ClassVar[str] = 'trigflow'
    sigma_data: float | int = 1.0

    def __post_init__(self) -> None:
        if not self.sigma_data > 0:
            raise UserError(f'sigma_data is {self.sigma_data}: it is the standard deviation of the data, above 0')

    def _levels(self, t):
        return jnp.sin(math.pi / 2 * (1 - t)), self.sigma_data * jnp.sin(math.pi / 2 * t)

    def time_of(self, log_snr):
        ratio = jnp.exp(-0.5 * jnp.asarray(log_snr, jnp.result_type(float, log_snr)))
        return jnp.clip(2 / math.pi * jnp.arctan(ratio / self.sigma_data), 0, 1)

    def angle(self, t: Time) -> Float[Array, '...']:
        """pi t / 2, the time of the papers."""
        return math.pi / 2 * time_of_schedule(t, self.name)
