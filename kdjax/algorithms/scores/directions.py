"""In which direction a picture descends: what the prior predicts of its noise, less something.

Each is a frozen dataclass called as `direction(given, t, found, key=key)`, where `found` is (the noise of x_t, the time
at which it was found). It answers (the direction, the times whose weight it gets).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.algorithms.scores.given import Given, moved
from kdjax.algorithms.scores.noises import Found
from kdjax.diffusion.guidance import Guidance
from kdjax.errors import UserError

PLAIN = Guidance(1, 'from_null')

Directed = tuple[Float[Array, 'batch *event'], Float[Array, ' batch']]


@runtime_checkable
class Direction(Protocol):
    """What descends."""

    def __call__(self, given: Given, t: Array, found: Found, *, key: jax.Array) -> Directed: ...


@dataclasses.dataclass(frozen=True)
class LessNoise:
    """Guided noise less the noise itself: SDS with drawn noise, CFD with the picture's own, SDI with inverted noise.

    Source: SDS, arXiv 2209.14988, equation 3.
    """

    def __call__(self, given: Given, t: Array, found: Found, *, key: jax.Array) -> Directed:
        del key
        noise, _ = found
        return given.guided.noise(given.noised(noise, t), t, given.condition) - noise, t


@dataclasses.dataclass(frozen=True)
class LessFake:
    """Guided noise less that of a score of the pictures themselves, which is not guided.

    Source: VSD, arXiv 2305.16213, section 3.2, and its code (nerf/sd.py).
    """

    def __call__(self, given: Given, t: Array, found: Found, *, key: jax.Array) -> Directed:
        del key
        fake, x_t = given.needs('fake', 'VSD'), given.noised(found[0], t)
        return given.guided.noise(x_t, t, given.condition) - fake.noise(x_t, t, given.condition), t


@dataclasses.dataclass(frozen=True)
class LessNothing:
    """NFSD: domain + scale (conditional - unconditional), with a third prediction under a negative condition.

    negative: the condition that describes bad pictures. threshold: of t, below which the unconditional prediction is
        taken as the domain. Source: arXiv 2310.17590, section 4.
    """

    negative: int
    threshold: float | int = 0.2

    def __call__(self, given: Given, t: Array, found: Found, *, key: jax.Array) -> Directed:
        del key
        x_t = given.noised(found[0], t)
        conditional, unconditional, negative = (
            given.prior.noise(x_t, t, c)
            for c in (given.condition, _everywhere(given, given.null), _everywhere(given, self.negative))
        )
        scale = _from_null(given.guidance)
        direction = losses.noise_free_direction(
            unconditional, conditional, negative, t, scale=scale, threshold=self.threshold
        )
        return direction, t


@dataclasses.dataclass(frozen=True)
class ClassifierOnly:
    """Conditional less unconditional prediction: guidance and nothing else. Source: CSD, arXiv 2310.19415."""

    def __call__(self, given: Given, t: Array, found: Found, *, key: jax.Array) -> Directed:
        del key
        x_t = given.noised(found[0], t)
        null = given.prior.noise(x_t, t, _everywhere(given, given.null))
        return given.prior.noise(x_t, t, given.condition) - null, t


@dataclasses.dataclass(frozen=True)
class LessNext:
    """Consistent3D: guided noise at t + gap less that at t, to which one step of DDIM leads.

    least, most: the gap is uniform between them, 100 to 300 of 1000 steps as released; beyond time 1 (released: .98) it
    is cut. The step is Euler's in sigma / alpha, as published. Where the prior is a Gaussian this contracts towards its
    mean; the gradient of 1/2 |D_t - sg(D_next)|^2 under an identity Jacobian is its negative and expands.
    Source: Consistent3D, arXiv 2401.09050, and its code (compute_grad_consistency).
    """

    least: float | int = 0.1
    most: float | int = 0.3

    def __call__(self, given: Given, t: Array, found: Found, *, key: jax.Array) -> Directed:
        gap = self.least + (self.most - self.least) * jax.random.uniform(key, t.shape, t.dtype)
        later, denoiser = jnp.minimum(t + gap, 1.0), given.guided
        x_later = given.noised(found[0], later)
        x_next = moved(denoiser, x_later, later, t, given.condition)
        later_noise = denoiser.noise(x_later, later, given.condition)
        return later_noise - denoiser.noise(x_next, t, given.condition), later


@dataclasses.dataclass(frozen=True)
class LessBefore:
    """DSD: guided noise at t less the prediction at the time t' >= t at which the noise was found, at one noise.

    guidance: of what is subtracted, none as released, where negative prompts are perpendicular; the other path of the
        same code makes of its number 1 a scale of 2.
    Source: DSD, arXiv 2412.06780, and its code (compute_grad_dsd).
    """

    guidance: Guidance = PLAIN

    def __call__(self, given: Given, t: Array, found: Found, *, key: jax.Array) -> Directed:
        del key
        noise, before = found
        reference = given.prior.guided(self.guidance, given.null)
        subtracted = reference.noise(given.noised(noise, before), before, given.condition)
        return given.guided.noise(given.noised(noise, t), t, given.condition) - subtracted, t


@dataclasses.dataclass(frozen=True)
class LessSource:
    """DDS: guided noise of the edited picture less that of its source, under its own condition, at the same noise.

    Its published code weighs all times alike. Source: arXiv 2304.07090.
    """

    def __call__(self, given: Given, t: Array, found: Found, *, key: jax.Array) -> Directed:
        del key
        edited, source = _both(given, t, found)
        return edited - source, t


@dataclasses.dataclass(frozen=True)
class Posterior:
    """PDS: psi (x - source) + chi (noise of the edited picture - noise of its source).

    step: of the chain whose beta is used. back: how far the posterior goes; with back = step psi is 0 (DDS up to a
        weight), and the released code goes back two steps of 1000. Times must be above `back`.
    Source: arXiv 2311.13831, section 4, and its pds.py.
    Raises UserError unless 0 < step <= back.
    """

    step: float = 1 / 999
    back: float = 2 / 999

    def __post_init__(self) -> None:
        if not 0 < self.step <= self.back:
            raise UserError(f'a posterior {self.back} back with the beta of a step of {self.step}: 0 < step <= back')

    def __call__(self, given: Given, t: Array, found: Found, *, key: jax.Array) -> Directed:
        del key
        edited, source_noise = _both(given, t, found)
        schedule = given.prior.schedule
        alpha = schedule.alpha(t)
        beta = 1 - jnp.square(alpha / schedule.alpha(t - self.step))
        source = given.needs('source', 'PDS')
        return losses.posterior_direction(
            given.x, source, edited, source_noise, alpha, schedule.alpha(t - self.back), beta
        ), t


def _both(given: Given, t: Array, found: Found) -> tuple[Array, Array]:
    """The guided noises of the edited picture and of its source, noised alike."""
    source = given.needs('source', 'an edit')
    condition = given.needs('source_condition', 'an edit')
    denoiser = given.guided
    return (
        denoiser.noise(given.noised(found[0], t), t, given.condition),
        denoiser.noise(given.prior.schedule.noised(source, found[0], t), t, condition),
    )


def _everywhere(given: Given, condition: Any) -> Array:
    return jnp.full_like(given.condition, condition)


def _from_null(guidance: Guidance) -> float | int:
    """The scale s of null + s (conditional - null). Raises UserError on a scale that is an array."""
    if isinstance(guidance.scale, jax.Array):
        raise UserError('NFSD takes one number as the scale of guidance, not an array')
    return guidance.scale if guidance.form == 'from_null' else guidance.scale + 1
