"""A step of continuous-time consistency, by a jvp through attention, against a plain denoising step: seconds a step.

The student is a small DiT; either step updates it once by Adam, at the same batch. Consistency learns from pairs of
data and noise, so that no teacher's forward pass is in it: what is measured is the derivative. The ratio is
consistency / denoising, without compilation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from timing import Contestant, arguments, conclude, interleaved, ratio, timed

from kdjax import losses
from kdjax.algorithms.consistency_continuous import continuous_consistency
from kdjax.diffusion import Denoiser, TrigFlow
from kdjax.models.model import Model
from kdjax.models.named_denoiser import named_denoiser

SEED, CLASSES, LEARNING_RATE = 0, 10, 1e-4
FULL = {'network': 'dit-128-4-p4', 'size': 28, 'batch': 64, 'steps': 5}
SMOKE = {'network': 'dit-8-1-p4-h2', 'size': 8, 'batch': 2, 'steps': 1}
GOALS = {'jvp': '<= 2.5'}
SCHEDULE = TrigFlow(sigma_data=0.5)

Loss = Callable[..., jax.Array]


def consistency(x: jax.Array, condition: jax.Array, student: Denoiser, key: jax.Array) -> jax.Array:
    return continuous_consistency(x, condition, student, None, key=key)


def denoising(x: jax.Array, condition: jax.Array, student: Denoiser, key: jax.Array) -> jax.Array:
    t = jax.random.uniform(key, (len(x),), minval=0.02, maxval=0.98)
    noise = jax.random.normal(jax.random.fold_in(key, 1), x.shape)
    x_t = SCHEDULE.noised(x, noise, t)
    alpha, sigma = SCHEDULE.levels(t)
    return losses.denoising(student.data(x_t, t, condition), x, alpha, sigma, unit='edm', sigma_data=0.5)


def contestant(case: dict[str, Any], loss: Loss) -> Contestant:
    """One update of the network by this loss."""
    network = named_denoiser(case['network'], classes=CLASSES, shape=(case['size'], case['size'], 1))
    key = jax.random.key(SEED)
    x = 0.5 * jax.random.normal(key, (case['batch'], case['size'], case['size'], 1))
    condition = jnp.arange(case['batch'], dtype=jnp.int32) % CLASSES
    optimizer = optax.adam(LEARNING_RATE)
    variables = jax.jit(lambda key: network.init(key, None))(key)
    held = [variables['params'], optimizer.init(variables['params'])]
    step = jax.jit(updating(network, variables['stats'], optimizer, loss), donate_argnums=(0, 1))

    def once() -> None:
        held[:] = step(*held, x, condition, key)
        jax.block_until_ready(held)

    return timed(once)


def updating(network: Model, stats: Any, optimizer: Any, loss: Loss) -> Callable[..., tuple[Any, Any]]:
    def step(params: Any, state: Any, x: jax.Array, condition: jax.Array, key: jax.Array) -> tuple[Any, Any]:
        def value(params: Any) -> jax.Array:
            def raw(x_t: jax.Array, t: jax.Array, condition: Any) -> jax.Array:
                variables = {'params': params, 'stats': stats}
                return network.apply(variables, (x_t, t, condition), key=key, train=True)[0].prediction

            return jnp.mean(loss(x, condition, Denoiser(raw, SCHEDULE, 'trigflow'), key))

        gradient = jax.grad(value)(params)
        with jax.numpy_dtype_promotion('standard'):  # optax raises floats to the power of integer counts
            change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state

    return step


def main() -> None:
    options = arguments(__doc__, repeats=7)
    case = SMOKE if options.smoke else FULL
    contestants = {'consistency': contestant(case, consistency), 'denoising': contestant(case, denoising)}
    seconds = interleaved(contestants, steps=case['steps'], repeats=options.repeats)
    conclude('jvp', ratios={'jvp': ratio(seconds['consistency'], seconds['denoising'])}, goals=GOALS)


if __name__ == '__main__':
    main()
