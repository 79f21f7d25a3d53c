"""By which noise a picture is brought to time t: drawn, its own, found by inversion, or that of the path of a seed.

Each is a frozen dataclass called as `noise(given, t, key=key)`, which answers (noise, the time at which it was found).
"""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.algorithms.scores.given import Given, moved
from kdjax.diffusion.checks import over
from kdjax.diffusion.guidance import Guidance
from kdjax.errors import UserError
from kdjax.streams import stream

NEGATIVE = Guidance(-7.5, 'from_null')
"""That of SDI's inversion, in the form of its equation 3 and of its 3-D configuration."""

Found = tuple[Float[Array, 'batch *event'], Float[Array, ' batch']]


@runtime_checkable
class Noise(Protocol):
    """The noise of x_t = alpha x + sigma noise."""

    def __call__(self, given: Given, t: Array, *, key: jax.Array) -> Found: ...


@dataclasses.dataclass(frozen=True)
class Drawn:
    """sqrt(1 - fresh) own + sqrt(fresh) new: standard normal for every share.

    fresh: 1, new noise every time (SDS); 0, the picture's own for ever, with which the scheme is the ODE of the prior
    (CFD, arXiv 2501.05445; Consistent3D); between them both are mixed, as CFD's code can.
    Raises UserError on a share outside 0..1.
    """

    fresh: float | int = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.fresh <= 1:
            raise UserError(f'{self.fresh} of the noise cannot be fresh: choose from 0 to 1')

    def __call__(self, given: Given, t: Array, *, key: jax.Array) -> Found:
        if self.fresh == 0:
            return given.needs('own', 'noise that stays'), t
        new = jax.random.normal(key, given.x.shape, given.x.dtype)
        if self.fresh == 1:
            return new, t
        kept = (1 - self.fresh) ** 0.5 * given.needs('own', 'noise that stays')
        return kept + self.fresh**0.5 * new, t


@dataclasses.dataclass(frozen=True)
class Inverted:
    """SDI: the noise that brings the picture back, by DDIM run backwards from it to a time t' >= t.

    steps: the grid is 0, 1 / steps, ... below t' (in the code below t), then t'. guidance: of the inversion, the
        negative of that of the picture, as published; the same code's path without perpendicular negatives takes the
        number in the form `beyond_condition`. beyond: t' ~ U(t, t + beyond). eta: stochastic noise of every step, as a
        share of DDIM's posterior deviation, added to it.
    The result is (z_t' - alpha' x) / sigma', with which x is noised to t, equation 10; the code shows z_t' itself to
    the network, as if it were of time t. Costs as many evaluations as steps, each of them guided. The schedule needs
    some noise at time 0, as Stable Diffusion's has; otherwise set `first` above 0.
    Source: arXiv 2405.15891, sections 4 to 6, and threestudio's stable_diffusion_sdi_guidance.py.
    """

    steps: int = 10
    guidance: Guidance = NEGATIVE
    beyond: float | int = 0.1
    eta: float | int = 0.3
    first: float | int = 0.0

    def __call__(self, given: Given, t: Array, *, key: jax.Array) -> Found:
        later = self.beyond * jax.random.uniform(stream(key, 'beyond'), t.shape, t.dtype)
        last = jnp.minimum(t + later, 1.0)
        denoiser = given.prior.guided(self.guidance, given.null)

        def one(z: Array, index: Array) -> tuple[Array, None]:
            at, to = (self._time(index + i, last) for i in (0, 1))
            fresh = jax.random.normal(stream(key, 'eta', index), z.shape, z.dtype)
            spread = self.eta * _posterior(denoiser.schedule, at, to)
            return moved(denoiser, z, at, to, given.condition) + over(spread, z) * fresh, None

        z, _ = jax.lax.scan(one, given.x, jnp.arange(self.steps))
        alpha, sigma = denoiser.schedule.levels(last)
        return (z - over(alpha, z) * given.x) / over(sigma, z), last

    def _time(self, index: Array, last: Array) -> Array:
        """A time of the grid, not beyond the last, which ends it."""
        on_grid = self.first + index.astype(last.dtype) * ((1 - self.first) / self.steps)
        return jnp.where(index == self.steps, last, jnp.minimum(on_grid, last))


@dataclasses.dataclass(frozen=True)
class FromSeed:
    """DSD: what the prior predicts at a time t' >= t of the path that DDIM takes from the picture's own noise.

    steps: the grid is 1, 1 - 1 / steps, ... above t', then t'. later: t' = t + u later (t - the lowest time of the
        run), u ~ U(0, 1). Costs one evaluation more than steps, each guided as the objective is.
    Source: DSD, and its released stable_diffusion_dsd_guidance.py.
    """

    steps: int = 10
    later: float | int = 0.1

    def __call__(self, given: Given, t: Array, *, key: jax.Array) -> Found:
        share = self.later * jax.random.uniform(stream(key, 'later'), t.shape, t.dtype)
        last = jnp.minimum(t + share * jnp.maximum(t - given.least, 0), 1.0)
        denoiser = given.guided
        z = denoiser.schedule.prior(given.needs('own', 'a path from a seed'))

        def one(z: Array, index: Array) -> tuple[Array, None]:
            at, to = (self._time(index + i, last) for i in (0, 1))
            return moved(denoiser, z, at, to, given.condition), None

        z, _ = jax.lax.scan(one, z, jnp.arange(self.steps))
        return denoiser.noise(z, last, given.condition), last

    def _time(self, index: Array, last: Array) -> Array:
        on_grid = 1 - index.astype(last.dtype) / self.steps
        return jnp.where(index == self.steps, last, jnp.maximum(on_grid, last))


def _posterior(schedule, at: Array, to: Array) -> Array:
    """The standard deviation of x_at given x_to and the data, at <= to: 0 where they are one time."""
    (alpha, sigma), (alpha_to, sigma_to) = schedule.levels(at), schedule.levels(to)
    left = jnp.maximum(1 - jnp.square(alpha_to * sigma / (alpha * sigma_to)), 0)
    return jnp.where(to > at, sigma * jnp.sqrt(left), 0.0)
