"""EM distillation: a few Langevin steps on latent and noise, then a regression of the generator onto where they end."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.algorithms.generators.matching import Weight
from kdjax.algorithms.generators.noising import EVERYWHERE, Noising
from kdjax.diffusion.checks import over
from kdjax.diffusion.denoiser import Denoiser
from kdjax.errors import UserError
from kdjax.streams import stream

Generator = Callable[[Array], Array]
"""Latents, standard normal `[batch, ...]`, to samples."""

CANCELS = ('nothing', 'injected', 'decayed')


@dataclasses.dataclass(frozen=True)
class Langevin:
    """`steps` updates of (noise, latent) towards p(x_t) / q(x_t) N(noise) N(latent), p the teacher's law, q one's own.

    noise_size: of a step of the noise. latent_size: of a step of the latent, 0 to leave it where it is; times
        min(1, sigma^2 / alpha^2) at each level, as the pull on it grows as alpha^2 / sigma^2.
    cancels: what is subtracted from the noise in the end, to lower the variance. 'injected': all normal draws of the
        way, which is right while steps * noise_size is far below 1; 'decayed': what the drift has left of them.

    Raises UserError on no steps, negative sizes and unknown cancellations.
    """

    steps: int = 8
    noise_size: float | int = 0.05
    latent_size: float | int = 0.05
    cancels: str = 'nothing'

    def __post_init__(self) -> None:
        if self.steps < 1 or self.noise_size <= 0 or self.latent_size < 0:
            raise UserError(
                f'{self.steps} Langevin steps of sizes {self.noise_size} and {self.latent_size}: at least one step, '
                'the noise moves, and the latent moves or stays (0)'
            )
        if self.cancels not in CANCELS:
            raise UserError(f"cancels='{self.cancels}': choose one of {', '.join(CANCELS)}")

    def __call__(
        self,
        generator: Generator,
        latent: Float[Array, 'batch *latent'],
        noise: Float[Array, 'batch *event'],
        t: Float[Array, ' batch'],
        condition: Any,
        real: Denoiser,
        fake: Denoiser,
        *,
        key: jax.Array,
    ) -> tuple[Float[Array, 'batch *latent'], Float[Array, 'batch *event']]:
        """(latent, noise) at the end. In units of the noise, one step size serves all levels of it."""
        levels = real.schedule.levels(t)
        size = over(self.latent_size * jnp.minimum(1.0, jnp.square(levels[1] / levels[0])), latent)
        decay = 1 - self.noise_size if self.cancels == 'decayed' else 1.0

        def one(carry: Any, i: jax.Array):
            latent, noise, book = carry
            x, pull = jax.vjp(generator, latent)
            alpha, sigma = (over(level, x) for level in levels)
            x_t = alpha * x + sigma * noise
            lift = fake.noise(x_t, t, condition) - real.noise(x_t, t, condition)  # sigma (score of p - score of q)
            draws = jax.random.split(jax.random.fold_in(key, i))
            fresh = (2 * self.noise_size) ** 0.5 * jax.random.normal(draws[0], noise.shape, noise.dtype)
            noise = noise + self.noise_size * (lift - noise) + fresh
            if self.latent_size:
                kick = jnp.sqrt(2 * size) * jax.random.normal(draws[1], latent.shape, latent.dtype)
                latent = latent + size * (pull(alpha / sigma * lift)[0] - latent) + kick
            return (latent, noise, decay * book + fresh), None

        first = latent, noise, jnp.zeros_like(noise)
        (latent, noise, book), _ = jax.lax.scan(one, first, jnp.arange(self.steps))
        return latent, noise if self.cancels == 'nothing' else noise - book


EIGHT = Langevin()
"""The length of the paper's ablation."""


def em_distillation(
    generator: Generator,
    latent: Float[Array, 'batch *latent'],
    condition: Any,
    real: Denoiser,
    fake: Denoiser,
    *,
    langevin: Langevin = EIGHT,
    noising: Noising = EVERYWHERE,
    weight: Weight | None = None,
    key: jax.Array,
) -> Float[Array, ' batch']:
    """|sg(x_t) - alpha g(z)|^2 / (2 sigma^2) at the end of the chain, whose gradient descends a divergence of p and q.

    One step with the latent held is noise_size times the gradient of the reverse KL in expectation; many steps of both
    turn it into that of the forward KL.
    weight: of each noise level; sigma^2 / alpha^2 measures the error of x.
    The target divides by the generator's own noised law.
    Source: after arXiv 2405.16852; derived, as its equations were not read and no code is public.
    """
    x = jax.lax.stop_gradient(generator(latent))
    _, t = noising(x, real.schedule, key=key)
    noise = jax.random.normal(stream(key, 'start'), x.shape, x.dtype)
    chain = langevin(_held(generator, latent), latent, noise, t, condition, real, fake, key=stream(key, 'chain'))
    latent, noise = jax.lax.stop_gradient(chain)
    alpha, sigma = real.schedule.levels(t)
    made = generator(latent)
    x_t = over(alpha, made) * made + over(sigma, made) * noise
    values = losses.em_distillation(made, x_t, alpha, sigma)
    return values if weight is None else weight(alpha, sigma) * values


def _held(generator: Generator, latent: Array) -> Generator:
    """The generator without a gradient in its parameters, whatever it closes over."""
    function, parameters = jax.closure_convert(lambda z: generator(z), latent)  # itself it may have no hash
    parameters = jax.lax.stop_gradient(parameters)
    return lambda z: function(z, *parameters)
