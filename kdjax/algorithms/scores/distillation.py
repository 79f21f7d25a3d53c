"""Score distillation as one objective of four choices: which times, which noise, which direction, which weight.

    method          times         noise            direction           weight
    SDS             uniform       Drawn()          LessNoise()         variance
    StableDreamer   narrowed      Drawn()          LessNoise()         variance
    VSD             uniform       Drawn()          LessFake()          variance
    NFSD            uniform       Drawn()          LessNothing(n)      variance
    CSD             uniform       Drawn()          ClassifierOnly()    variance
    SDI             annealed      Inverted()       LessNoise()         data
    CFD             annealed      Drawn(fresh=0)   LessNoise()         data
    Consistent3D    annealed      Drawn(fresh=0)   LessNext()          uniform
    DSD             annealed      FromSeed()       LessBefore()        variance
    DDS             uniform       Drawn()          LessSource()        variance
    PDS             uniform       Drawn()          Posterior()         uniform

Anything may be combined. No network is differentiated, neither in its parameters nor in its inputs.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.algorithms.scores.directions import Direction, LessNoise
from kdjax.algorithms.scores.fake import of_particles
from kdjax.algorithms.scores.given import Given
from kdjax.algorithms.scores.noises import Drawn, Noise
from kdjax.algorithms.scores.times import Times, uniform
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.guidance import Guidance
from kdjax.errors import UserError
from kdjax.objectives import Objective, term
from kdjax.streams import stream

FunctionToDenoiser = Callable[[Callable[..., Any]], Denoiser]
"""What stands at an address such as `'teacher()'` as a denoiser, not guided."""

EVERY_TIME, NEW, LESS_NOISE = uniform(), Drawn(), LessNoise()
"""The choices of SDS."""


@dataclasses.dataclass(frozen=True)
class ScoreDistillation:
    """The choices. See the table of this module.

    guidance: of the prior; the null condition comes with the call. steps: of the whole run, for the times.
    clip: the largest absolute value of an entry of weight * direction.
    """

    guidance: Guidance
    steps: int
    times: Times = EVERY_TIME
    noise: Noise = NEW
    direction: Direction = LESS_NOISE
    weight: str = 'variance'
    clip: float | int | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f'score distillation over {self.steps} steps: its times need to know how many, 1 or more')

    def __call__(self, given: Given, *, key: jax.Array, step: Any) -> Float[Array, ' batch']:
        """One value for each picture, whose gradient in `given.x` is weight * direction.

        step: how many steps have been made. See `losses.distilled_score` for what the value means.
        """
        direction, weight = self.direction_of(given, key=key, step=step)
        return losses.distilled_score(given.x, direction, weight, clip=self.clip)

    def direction_of(
        self, given: Given, *, key: jax.Array, step: Any
    ) -> tuple[Float[Array, 'batch *event'], Float[Array, ' batch']]:
        """(direction, weight of each picture), both constants."""
        given = dataclasses.replace(given, x=jax.lax.stop_gradient(given.x), least=self.times.least)
        progress = jnp.asarray(step, given.x.dtype) / self.steps
        t = self.times.draw(len(given.x), progress, key=stream(key, 't'))
        found = self.noise(given, t, key=stream(key, 'noise'))
        direction, at = self.direction(given, t, found, key=stream(key, 'direction'))
        weight = losses.score_weight(*given.prior.schedule.levels(at), weight=self.weight)
        return jax.lax.stop_gradient(direction), jax.lax.stop_gradient(weight)

    def objective(
        self, denoiser: FunctionToDenoiser, null: Any, *, name: str = 'score_distillation', **addresses: Any
    ) -> Objective:
        """A term that reads what `reads` says; what a choice asks for and nobody names is a UserError."""
        addresses_read, given = reads(self.guidance, denoiser, null, **addresses)

        def score_distillation(*values, key, step):
            return self(given(*values), key=key, step=step)

        return term(score_distillation, *addresses_read, name=name)


def reads(
    guidance: Guidance,
    denoiser: FunctionToDenoiser,
    null: Any,
    *,
    x: str = 'student',
    condition: str = 'batch.label',
    teacher: str = 'teacher()',
    own: str | None = None,
    fake: str | None = None,
    source: str | None = None,
    source_condition: str | None = None,
    fake_denoiser: FunctionToDenoiser | None = None,
    particles: float | int | None = None,
) -> tuple[tuple[str, ...], Callable[..., Given]]:
    """Addresses in a view, and what makes a `Given` of the values that stand there.

    fake_denoiser: how the fake score is understood, if not as the prior is.
    particles: in place of `fake`, the exact score of the pictures of the batch, each this wide (`of_particles`).
    """
    others = {'own': own, 'fake': fake, 'source': source, 'source_condition': source_condition}
    named = {n: address for n, address in others.items() if address is not None}

    def given(x, condition, teacher, *read):
        prior, more = denoiser(teacher), dict(zip(named, read, strict=True))
        if particles is not None:
            more['fake'] = of_particles(x, condition, prior.schedule, width=particles)
        elif 'fake' in more:
            more['fake'] = (fake_denoiser or denoiser)(more['fake'])
        constant = {n: a if n == 'fake' else jax.lax.stop_gradient(a) for n, a in more.items()}
        return Given(x, condition, prior, guidance, null, **constant)

    return (x, condition, teacher, *named.values()), given


def noise_share(directions: Float[Array, 'draws batch *event']) -> Float[Array, ' batch']:
    """How much of a direction is noise: its variance over draws by its mean square, 0 (none) to about 1 (nothing else).

    Needs two draws or more, the first axis; 0 where a method draws nothing.
    """
    flat = directions.reshape(*directions.shape[:2], -1)
    variance = jnp.sum(jnp.var(flat, axis=0, ddof=1), axis=1)
    square = jnp.mean(jnp.sum(jnp.square(flat), axis=2), axis=0)
    return variance / jnp.maximum(square, jnp.finfo(flat.dtype).tiny)
