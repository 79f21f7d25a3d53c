"""Mixtures and schedules that the tests of this room share."""

import jax
import jax.numpy as jnp

from kdjax import diffusion

SCHEDULES = {
    'cosine': diffusion.Cosine(),
    'linear': diffusion.Linear(),
    'discrete': diffusion.Discrete.scaled_linear(),
    'karras': diffusion.Karras(),
    'flow': diffusion.Flow(),
    'trigflow': diffusion.TrigFlow(sigma_data=0.5),
}
THREE = ['linear', 'karras', 'trigflow']
"""Preserved variance, exploding variance, a data scale: for what depends on the levels alone."""
TIMES = jnp.array([0.05, 0.2, 0.5, 0.8, 0.95])


def two_classes():
    """Three skewed components in two dimensions, two of them of class 1."""
    return diffusion.full(
        [[1.0, 0.5], [-1.0, 0.0], [0.2, -1.2]],
        [[[0.2, 0.05], [0.05, 0.1]], [[0.1, -0.06], [-0.06, 0.3]], [[0.05, 0.0], [0.0, 0.05]]],
        weights=[1.0, 2.0, 1.0],
        component_classes=[0, 1, 1],
    )


def one_gaussian():
    return diffusion.gaussian([0.5, -0.3], [[0.5, 0.2], [0.2, 0.3]])


def states(count: int = len(TIMES), key: int = 0):
    return jax.random.normal(jax.random.key(key), (count, 2))
