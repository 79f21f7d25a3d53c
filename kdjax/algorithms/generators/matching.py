"""A generator that moves along the difference of two scores, and the fake score that follows it.

Samples x `[batch, ...]` come from the generator. `real` is the teacher, `fake` a denoiser trained on the generator's
samples. Each objective draws its own times and noise.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.algorithms.generators.noising import EVERYWHERE, MIDDLE, Noising
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.solvers import DPMSolver

Weight = Callable[[Array, Array], Array]
"""(alpha, sigma) -> the weight of each example, `[batch]` each."""

PAIR_STEPS = 8


def snr(alpha: Float[Array, ' batch'], sigma: Float[Array, ' batch']) -> Float[Array, ' batch']:
    """alpha^2 / sigma^2: with it, and without a normaliser, matching descends KL(q_t || p_t) as it stands."""
    return (alpha / sigma) ** 2


def denoising(
    x: Float[Array, 'batch *event'],
    condition: Any,
    fake: Denoiser,
    *,
    noising: Noising = EVERYWHERE,
    unit: str = 'edm',
    key: jax.Array,
) -> Float[Array, ' batch']:
    """What the fake score minimises: its error on noised samples, which are constants to it.

    unit: how much each level counts, see `losses.denoising_weight`.
    Source: DMD2, arXiv 2405.14867, section 4.2, and its code (compute_loss_fake).
    """
    x = jax.lax.stop_gradient(x)
    x_t, t = noising(x, fake.schedule, key=key)
    scale = 0.5 if fake.sigma_data is None else fake.sigma_data
    said = fake.data(x_t, t, condition)
    return losses.denoising(said, x, *fake.schedule.levels(t), unit=unit, sigma_data=scale)


def distribution_matching(
    x: Float[Array, 'batch *event'],
    condition: Any,
    real: Denoiser,
    fake: Denoiser,
    *,
    noising: Noising = MIDDLE,
    normaliser: str = 'sample',
    weight: Weight | None = None,
    key: jax.Array,
) -> Float[Array, ' batch']:
    """DMD: the gradient in x is (fake - real) of both data predictions at x_t, over the normaliser.

    weight: of each noise level. `snr` with normaliser='none' is the gradient of KL(q_t || p_t); None with 'none' is
        that of Diff-Instruct's code (training/di_loss.py), which draws EDM's log-normal levels.
    No gradient passes through the networks. Value and normaliser: see `losses.distribution_matching`.
    Source: DMD, arXiv 2311.18828, equations 7-8; DMD2, main/edm/edm_guidance.py; Diff-Instruct, arXiv 2305.18455.
    """
    x_t, t = noising(jax.lax.stop_gradient(x), real.schedule, key=key)
    scale = None if weight is None else weight(*real.schedule.levels(t))
    return losses.distribution_matching(
        x, real.data(x_t, t, condition), fake.data(x_t, t, condition), scale, normaliser=normaliser
    )


def regression(
    x: Float[Array, 'batch *event'], prior: Float[Array, 'batch *event'], condition: Any, real: Denoiser
) -> Float[Array, ' batch']:
    """The mean squared error of x and the teacher's sample of the same prior, by its ODE from t = 1.

    `PAIR_STEPS` of DPM-Solver++(2M), made anew each time; DMD keeps a set of pairs, and compares them by LPIPS.
    Source: DMD, arXiv 2311.18828, equation 9.
    """
    target = DPMSolver()(real, prior, jnp.linspace(1.0, 0.0, PAIR_STEPS + 1), condition)
    return losses.hint_mse(x, jax.lax.stop_gradient(target))
