"""The score of the pictures themselves: learned beside them by denoising, or known exactly from all of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kdjax import losses
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.round import particle_law
from kdjax.diffusion.schedules import Schedule
from kdjax.streams import stream


def denoising(
    x: Float[Array, 'batch *event'], condition: Any, fake: Denoiser, *, key: jax.Array
) -> Float[Array, ' batch']:
    """The mean squared error of the fake score's noise on pictures, which are constants, at t ~ U(0, 1).

    All times, whatever times the pictures use; no guidance.
    Source: VSD, arXiv 2305.16213, section 3.2; its code (nerf/utils.py) has the error of v by default.
    """
    x = jax.lax.stop_gradient(x)
    t = jax.random.uniform(stream(key, 't'), x.shape[:1], x.dtype)
    noise = jax.random.normal(stream(key, 'noise'), x.shape, x.dtype)
    x_t = fake.schedule.noised(x, noise, t)
    return losses.hint_mse(fake.noise(x_t, t, condition), noise)


def of_particles(
    x: Float[Array, 'batch *event'],
    labels: Int[Array, ' batch'],
    schedule: Schedule,
    *,
    width: float | int = 0.15,
) -> Denoiser:
    """The exact score of the mixture of all pictures of a label, each as wide as `width`.

    It answers about these pictures, row i under the label of picture i, and reads no condition. Without a width,
    pictures would repel one another without bound at low noise.
    """
    law = particle_law(jax.lax.stop_gradient(x), labels, jnp.asarray(width, x.dtype)).denoiser(schedule)

    def network(x_t: jax.Array, t: jax.Array, condition: Any) -> jax.Array:
        del condition
        return law.network(x_t, t, jnp.arange(len(x_t)))

    return Denoiser(network, schedule, 'data', name='particles')


def following(denoiser: Callable[[Callable[..., Any]], Denoiser]) -> Callable[..., jax.Array]:
    """`denoising` as a loss that reads pictures, their condition and the address `'fake()'`."""

    def fake_denoising(x: jax.Array, condition: Any, fake: Callable[..., Any], *, key: jax.Array) -> jax.Array:
        return denoising(x, condition, denoiser(fake), key=key)

    return fake_denoising
