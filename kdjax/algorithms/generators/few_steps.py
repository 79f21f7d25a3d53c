"""A generator of a few steps: it predicts data, which is noised anew for the next step.

A generator is `(x_t, t, condition) -> x`, the data expected.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.algorithms.generators.noising import with_noise
from kdjax.diffusion.schedules import Schedule
from kdjax.diffusion.times import falling

Generator = Callable[[Array, Array, Any], Array]


def sampled(
    generator: Generator,
    prior: Float[Array, 'batch *event'],
    condition: Any,
    schedule: Schedule,
    times: Sequence[float],
    *,
    key: jax.Array,
) -> Float[Array, 'batch *event']:
    """One sample from each state at the first time, by a call at each of the falling times."""
    x_t, t = _states(generator, prior, condition, schedule, times, key)[-1]
    return generator(x_t, t, condition)


def simulated(
    generator: Generator,
    prior: Float[Array, 'batch *event'],
    condition: Any,
    schedule: Schedule,
    times: Sequence[float],
    *,
    key: jax.Array,
) -> Float[Array, 'batch *event']:
    """The data expected at one of the times, drawn for the whole batch, in a state that the generator has led to.

    Gradients pass through that call alone. Source: DMD2's backward simulation, arXiv 2405.14867, section 4.5, and
    main/sd_unified_model.py (sample_backward).
    """

    def constant(x_t: Array, t: Array, condition: Any) -> Array:
        return jax.lax.stop_gradient(generator(x_t, t, condition))

    return _at_one(generator, _states(constant, prior, condition, schedule, times, key), condition, key)


def from_data(
    generator: Generator,
    data: Float[Array, 'batch *event'],
    condition: Any,
    schedule: Schedule,
    times: Sequence[float],
    *,
    key: jax.Array,
) -> Float[Array, 'batch *event']:
    """The same in states that are noised data, which sampling never sees: what backward simulation replaces."""
    falling(jnp.asarray(times))
    states = [
        with_noise(data, schedule, jnp.full(len(data), t, jnp.float32), key=jax.random.fold_in(key, i))
        for i, t in enumerate(times)
    ]
    return _at_one(generator, states, condition, key)


def _states(generator, prior, condition, schedule, times, key):
    """(x_t, t) at each time, each made of the generator's answer to the one before and of fresh noise."""
    if len(times) > 1:
        falling(jnp.asarray(times))
    states: list[tuple[Array, Array]] = []
    for i, time in enumerate(times):
        t = jnp.full(len(prior), time, jnp.float32)
        if states:
            x = generator(*states[-1], condition)
            states.append(with_noise(x, schedule, t, key=jax.random.fold_in(key, i)))
        else:
            states.append((prior, t))
    return states


def _at_one(generator, states, condition, key):
    """The generator at one of the states; one draw serves the batch, as a batch is one program."""
    chosen = jax.random.randint(jax.random.fold_in(key, len(states)), (), 0, len(states))
    x_t, t = (jnp.stack(each)[chosen] for each in zip(*states, strict=True))
    return generator(x_t, t, condition)
