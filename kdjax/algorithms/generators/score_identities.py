"""Generators that match scores through both networks: SiD and SIM.

The parameters of `real` and `fake` are constants, their inputs are not: gradients reach x through both of them.
"""

from typing import Any

import jax
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.algorithms.generators.matching import Weight
from kdjax.algorithms.generators.noising import EVERYWHERE, Even, Noising
from kdjax.diffusion.denoiser import Denoiser

BELOW = Even(0.0, 0.8)
"""SiD's range of its generator: the Karras ladder up to sigma = 24."""


def score_identity(
    x: Float[Array, 'batch *event'],
    condition: Any,
    real: Denoiser,
    fake: Denoiser,
    *,
    alpha: float | int = 1.2,
    noising: Noising = BELOW,
    normaliser: str = 'sample',
    key: jax.Array,
) -> Float[Array, ' batch']:
    """SiD: (real - fake) . ((real - x) - alpha (real - fake)) over the normaliser.

    Negative values are usual, and they say nothing about progress. Source: arXiv 2404.04057, training/sid_loss.py.
    """
    x_t, t = noising(x, real.schedule, key=key)
    said = real.data(x_t, t, condition), fake.data(x_t, t, condition)
    return losses.score_identity(x, *said, alpha=alpha, normaliser=normaliser)


def score_implicit_matching(
    x: Float[Array, 'batch *event'],
    condition: Any,
    real: Denoiser,
    fake: Denoiser,
    *,
    distance: str = 'pseudo_huber',
    c: float | int = 1.0,
    scale: Weight | None = None,
    noising: Noising = EVERYWHERE,
    key: jax.Array,
) -> Float[Array, ' batch']:
    """SIM: the gradient of a distance of fake and real, under a law of x_t that stands still.

    scale: the unit in which the distance is taken, and c with it; None: of data predictions.
    Source: after arXiv 2410.16794, section 3, see `losses.score_implicit_matching`.
    """
    x_t, t = noising(x, real.schedule, key=key)
    said = real.data(x_t, t, condition), fake.data(x_t, t, condition)
    unit = None if scale is None else scale(*real.schedule.levels(t))
    return losses.score_implicit_matching(x, *said, unit, distance=distance, c=c)
