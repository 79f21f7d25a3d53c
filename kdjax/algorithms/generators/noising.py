"""How samples are noised before denoisers are asked about them: at which times, with which noise."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.diffusion.schedules import Schedule
from kdjax.errors import UserError
from kdjax.streams import stream

Noising = Callable[..., tuple[Array, Array]]
"""`(x, schedule, *, key) -> (x_t, t)`, t of each example `[batch]`. Gradients pass from x_t to x."""


@dataclasses.dataclass(frozen=True)
class Even:
    """Times drawn evenly from [low, high]; under a Karras schedule that is even on EDM's ladder of noise levels.

    DMD leaves out both ends, 0.02 to 0.98; SiD's generator takes 0 to 0.8. Raises UserError outside [0, 1].
    """

    low: float | int = 0.0
    high: float | int = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise UserError(f'times even from {self.low} to {self.high}: 0 <= low < high <= 1, data is 0 and noise 1')

    def __call__(
        self, x: Float[Array, 'batch *event'], schedule: Schedule, *, key: jax.Array
    ) -> tuple[Float[Array, 'batch *event'], Float[Array, ' batch']]:
        t = jax.random.uniform(stream(key, 'time'), x.shape[:1], jnp.float32, self.low, self.high)
        return with_noise(x, schedule, t, key=key)


@dataclasses.dataclass(frozen=True)
class LogNormal:
    """ln(sigma / alpha) ~ N(mean, deviation^2). EDM's defaults, for data of deviation 0.5 (arXiv 2206.00364, table 1).

    Raises UserError on a negative deviation.
    """

    mean: float | int = -1.2
    deviation: float | int = 1.2

    def __post_init__(self) -> None:
        if self.deviation < 0:
            raise UserError(f'ln sigma ~ N({self.mean}, {self.deviation}^2): a deviation is at least 0')

    def __call__(
        self, x: Float[Array, 'batch *event'], schedule: Schedule, *, key: jax.Array
    ) -> tuple[Float[Array, 'batch *event'], Float[Array, ' batch']]:
        level = self.mean + self.deviation * jax.random.normal(stream(key, 'time'), x.shape[:1], jnp.float32)
        return with_noise(x, schedule, schedule.time_of(-2.0 * level), key=key)


def with_noise(
    x: Float[Array, 'batch *event'], schedule: Schedule, t: Float[Array, ' batch'], *, key: jax.Array
) -> tuple[Float[Array, 'batch *event'], Float[Array, ' batch']]:
    """(x_t, t) with fresh standard normal noise."""
    noise = jax.random.normal(stream(key, 'noise'), x.shape, x.dtype)
    return schedule.noised(x, noise, t), t


EVERYWHERE = Even()
MIDDLE = Even(0.02, 0.98)
"""DMD's range (arXiv 2311.18828, and main/edm/edm_guidance.py of DMD2)."""
