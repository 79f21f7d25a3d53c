"""What every choice of a score distillation may look at."""

import dataclasses
from typing import Any

from jaxtyping import Array, Float

from kdjax.diffusion.checks import over
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.guidance import Guidance
from kdjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Given:
    """Pictures, and the networks that say something about them. Everything is a constant here.

    x: the pictures. condition: what the prior is told of each. own: standard normal noise that belongs to each picture
        and stays the same, for those who ask for it.
    prior: without guidance. guidance, null: how it is guided, and the null condition.
    fake: the score of the pictures themselves. source, source_condition: what is edited, and how the prior knows it.
    least: the lowest time of the run.
    """

    x: Array
    condition: Any
    prior: Denoiser
    guidance: Guidance
    null: Any
    own: Array | None = None
    fake: Denoiser | None = None
    source: Array | None = None
    source_condition: Any = None
    least: float = 0.0

    @property
    def guided(self) -> Denoiser:
        return self.prior.guided(self.guidance, self.null)

    def noised(self, noise: Array, t: Array) -> Array:
        """x_t."""
        return self.prior.schedule.noised(self.x, noise, t)

    def needs(self, name: str, who: str) -> Any:
        """What stands under a name. Raises UserError where nobody has given it."""
        value = getattr(self, name)
        if value is None:
            raise UserError(f'{who} needs `{name}` and was given none: name its address, `{name}=`, in the objective')
        return value


def moved(
    denoiser: Denoiser, x_t: Float[Array, 'batch *event'], t: Array, to: Array, condition: Any
) -> Float[Array, 'batch *event']:
    """DDIM's step from times t to times `to`, `[batch]` each, in either direction; none where they are the same.

    sigma(t) has to be above 0.
    """
    (alpha, sigma), (alpha_to, sigma_to) = denoiser.schedule.levels(t), denoiser.schedule.levels(to)
    data = denoiser.data(x_t, t, condition)
    ratio = sigma_to / sigma
    return over(ratio, x_t) * x_t + over(alpha_to - alpha * ratio, x_t) * data
