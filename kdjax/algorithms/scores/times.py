"""At which noise levels a score is asked, as a run goes on."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.errors import UserError

Knot = tuple[float, float, float]
"""(progress, low, high)."""


@dataclasses.dataclass(frozen=True)
class Times:
    """t ~ U(low, high), drawn for each example; both ends move with the progress of the run, 0 at first and 1 at last.

    knots: (progress, low, high), progress rising from 0; straight lines between them. low = high is one known time.
    power: of the progress before the knots are looked up. 0.5 is the square-root annealing of HiFA and threestudio.
    Raises UserError on knots that do not begin at 0 or do not rise, and on ends outside 0 <= low <= high <= 1.
    """

    knots: tuple[Knot, ...]
    power: float | int = 1.0

    def __post_init__(self) -> None:
        progress = [knot[0] for knot in self.knots]
        if not progress or progress[0] != 0 or progress != sorted(progress) or not self.power > 0:
            raise UserError(f'times with knots at {progress} and power {self.power}: they begin at 0, rise, power > 0')
        for _, low, high in self.knots:
            if not 0 <= low <= high <= 1:
                raise UserError(f'times from {low} to {high}: 0 <= low <= high <= 1, with 0 = data and 1 = noise')

    def ends(self, progress: Float[Array, '']) -> tuple[Float[Array, ''], Float[Array, '']]:
        """(low, high) at this progress."""
        at, low, high = (jnp.asarray(column, progress.dtype) for column in zip(*self.knots, strict=True))
        moved = progress ** jnp.asarray(self.power, progress.dtype)
        return jnp.interp(moved, at, low), jnp.interp(moved, at, high)

    def draw(self, count: int, progress: Float[Array, ''], *, key: jax.Array) -> Float[Array, ' count']:
        """Times `[count]`."""
        low, high = self.ends(progress)
        return low + (high - low) * jax.random.uniform(key, (count,), progress.dtype)

    @property
    def least(self) -> float:
        """The lowest time of the whole run."""
        return min(low for _, low, _ in self.knots)


def uniform(low: float = 0.02, high: float = 0.98) -> Times:
    """The same range all the time, as in DreamFusion."""
    return Times(((0.0, low, high),))


def annealed(first: float = 0.98, last: float = 0.02, *, power: float | int = 1.0) -> Times:
    """One known time, which falls from `first` to `last`."""
    return Times(((0.0, first, first), (1.0, last, last)), power)


def narrowed(low: float = 0.02, high: float = 0.98, *, to: float = 0.5) -> Times:
    """The largest time falls from `high` to `to`, as in StableDreamer."""
    return Times(((0.0, low, high), (1.0, low, to)))
