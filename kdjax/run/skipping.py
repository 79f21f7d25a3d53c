"""An algorithm that steps over what is not finite."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.algorithms.algorithm import Algorithm, Batch, State

SKIPPED = 'skipped'
"""The metric that is 1 at a step that was skipped and 0 at others."""


def skipping(algorithm: Algorithm) -> Algorithm:
    """The algorithm, but a step whose metrics or new state are not finite leaves the state bitwise as it was.

    Only `state['step']` moves on, so the next step sees other data and draws. The metrics of a skipped step are 0.
    """

    def step(state: State, frozen: Mapping[str, Any], batch: Batch, key: jax.Array):
        moved, metrics = algorithm.step(state, frozen, batch, key)
        good = finite((moved, metrics))
        kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), moved, state)
        said = {name: jnp.where(good, value, jnp.zeros_like(value)) for name, value in metrics.items()}
        return kept | {'step': moved['step']}, said | {SKIPPED: jnp.where(good, 0.0, 1.0)}

    under = algorithm.under
    again = None if under is None else lambda execution: skipping(under(execution))
    return dataclasses.replace(algorithm, step=step, under=again)


def finite(tree: Any) -> jax.Array:
    """Whether every float of a pytree is finite: bool []."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats]).all() if floats else jnp.bool_(True)
