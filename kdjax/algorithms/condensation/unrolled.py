"""Training as a pure function of its data, and the gradient through it: exact, truncated, or with weights held.

    theta_{i+1} = theta_i - rate * g_i,   g_i = d loss(theta_i, data, step i) / d theta

Reverse mode through T such steps needs every theta_i. Here a step is computed again in the backward pass, so that no
activation is kept, and so is a segment of steps: about 2 sqrt(T) copies of theta, for one more forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax.errors import UserError, unknown

ESTIMATORS = ('exact', 'truncated', 'held')
"""What of d theta_T / d data is kept; see `unrolled`."""

FINITE = 'finite_inner_steps'
"""What an objective logs of `finite_steps`; `check_finite` reads it when a step is not finite."""

Loss = Callable[..., jax.Array]
"""`loss(params, data, *, step, key) -> scalar`: of one inner step on a pytree of data, e.g. on a minibatch of it."""


def unrolled(
    loss: Loss,
    params: Any,
    data: Any,
    rate: jax.Array | float | int,
    *,
    steps: int,
    key: jax.Array,
    estimator: str = 'exact',
    last: int | None = None,
    segment: int | None = None,
) -> tuple[Any, jax.Array]:
    """The parameters after `steps` steps of gradient descent, and the loss before each of them, `[steps]`.

    Args:
        loss: of one step; it gets the step's number and a key of its own.
        params: theta_0. data: what is differentiated, with `rate`, a scalar.
        estimator: 'exact' is the gradient; 'truncated' goes back through the last `last` steps only, and what came
            before is a constant; 'held' takes each g_i at theta_i held constant, so that d g_i / d theta_i is left out.
            'held' is the gradient that TESLA computes (its code multiplies a tuple by 2, and so loses that factor).
            Values are the same for all three.
        last: of 'truncated'. segment: steps whose parameters are kept at once; the square root of `steps` unless given.

    Memory beyond one step: theta times (steps / segment + segment). Raises UserError on steps or segments below 1, on
    an unknown estimator, and where `last` is missing or too many.
    Sources: MTT, arXiv 2203.11932, section 3; TESLA, arXiv 2211.10586, equation 7, and its distill.py; recomputation,
    arXiv 1604.06174.
    """
    before = _checked(steps, estimator, last, segment)
    held, size = estimator == 'held', segment or round(math.sqrt(steps))
    losses = []
    if before:
        constants = jax.lax.stop_gradient((params, data, rate))
        params, first = _descent(loss, *constants, start=0, steps=before, key=key, held=False, segment=size)
        params, first = jax.lax.stop_gradient((params, first))
        losses.append(first)
    params, rest = _descent(
        loss, params, data, rate, start=before, steps=steps - before, key=key, held=held, segment=size
    )
    return params, jnp.concatenate([*losses, rest])


def _checked(steps: int, estimator: str, last: int | None, segment: int | None) -> int:
    """How many of the first steps are constants."""
    if estimator not in ESTIMATORS:
        raise unknown('estimator', estimator, ESTIMATORS)
    for name, value in (('steps', steps), ('segment', segment)):
        if value is not None and value < 1:
            raise UserError(f'{name}={value} of inner training: at least 1')
    if estimator != 'truncated':
        return 0
    if last is None or not 1 <= last <= steps:
        raise UserError(f"last={last} of {steps} inner steps: estimator='truncated' goes back through 1 to {steps}")
    return steps - last


def _descent(loss, params, data, rate, *, start: int, steps: int, key, held: bool, segment: int):
    """Steps start .. start + steps - 1, in whole segments and a rest."""
    rate = jnp.asarray(rate)

    @jax.checkpoint
    def step(params, data, rate, i):
        at = jax.lax.stop_gradient(params) if held else params
        value, gradient = jax.value_and_grad(loss)(at, data, step=i, key=jax.random.fold_in(key, i))
        return jax.tree.map(lambda p, g: p - rate.astype(p.dtype) * g, params, gradient), value

    def several(length: int, params, data, rate, first):
        return jax.lax.scan(lambda p, i: step(p, data, rate, i), params, first + jnp.arange(length, dtype=jnp.int32))

    whole, rest = divmod(steps, segment)
    again = jax.checkpoint(partial(several, segment))
    firsts = start + segment * jnp.arange(whole, dtype=jnp.int32)
    params, losses = jax.lax.scan(lambda p, first: again(p, data, rate, first), params, firsts)
    losses = losses.reshape(-1)
    if rest:
        first = jnp.asarray(start + segment * whole, jnp.int32)
        params, more = jax.checkpoint(partial(several, rest))(params, data, rate, first)
        losses = jnp.concatenate([losses, more])
    return params, losses


def agreement(estimate: Any, exact: Any) -> dict[str, jax.Array]:
    """Of two gradients of one shape: `cosine`, and `norm_ratio` = |estimate| / |exact|; float32 scalars."""
    lengths = optax.tree.norm(estimate), optax.tree.norm(exact)
    product = optax.tree.vdot(estimate, exact)
    both = lengths[0] * lengths[1]
    return {
        'cosine': jnp.asarray(product / jnp.where(both > 0, both, 1.0), jnp.float32),
        'norm_ratio': jnp.asarray(lengths[0] / jnp.where(lengths[1] > 0, lengths[1], 1.0), jnp.float32),
    }


def finite_steps(losses: jax.Array) -> jax.Array:
    """How many inner losses `[steps]` come before the first that is NaN or infinite; all of them where none is."""
    return jnp.sum(jnp.cumprod(jnp.isfinite(losses).astype(jnp.float32)))


def said_of(finite: int, *, value: bool) -> str:
    """For people: where inner training diverged, and what helps.

    finite: of `finite_steps`. value: whether what came of it is not finite, or its gradient alone.
    """
    if value:
        return f'inner training diverged at its step {finite}: lower its rate, or take fewer steps'
    return (
        f'the gradient through {finite} inner steps is not finite, though every loss is: lower the inner rate, take '
        'fewer steps, or truncate'
    )


def check_finite(losses: Any, gradient: Any) -> None:
    """On the host: raises `UserError` unless inner losses `[steps]` and the gradient through them are finite."""
    bad = np.flatnonzero(~np.isfinite(np.asarray(losses)))
    if len(bad):
        raise UserError(said_of(int(bad[0]), value=True))
    if not all(np.isfinite(np.asarray(g)).all() for g in jax.tree.leaves(gradient)):
        raise UserError(said_of(len(losses), value=False))
