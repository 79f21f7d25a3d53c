"""The gradient of an objective over a batch: at once, or part by part in less memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.algorithms.algorithm import Batch
from kdjax.algorithms.alike import laid_like
from kdjax.errors import UserError
from kdjax.objectives import Reduced, total

Evaluate = Callable[[Any, Any, Batch, jax.Array], tuple[dict[str, Reduced], Any, Any]]
"""`evaluate(params, stats, batch, key) -> (reduced, stats, outputs)`: one forward pass of everything that is read."""


@dataclasses.dataclass(frozen=True)
class Found:
    """A gradient like the parameters, the reduced terms of the whole batch, statistics afterwards, and all outputs."""

    gradient: Any
    reduced: Mapping[str, Reduced]
    stats: Any
    outputs: Any


def gradient(evaluate: Evaluate, params: Any, stats: Any, batch: Batch, key: jax.Array, *, parts: int) -> Found:
    """Of `total(reduced)` in `params`, over `parts` equal parts of the batch. Raises `UserError` if they do not divide.

    Part i holds the examples i, i + parts, ...: spread over devices as the batch is. Every term is its sum over the
    whole batch by its count over the whole batch, so that parts with more masked entries weigh less. Statistics pass
    from part to part.
    """
    if parts == 1:
        return _at_once(evaluate, params, stats, batch, key)
    size = len(jax.tree.leaves(batch)[0])
    if size % parts:
        raise UserError(f'accumulate={parts} does not divide a batch of {size}: choose a divisor')
    return _in_parts(evaluate, params, stats, _dealt(batch, parts), key)


def _at_once(evaluate: Evaluate, params: Any, stats: Any, batch: Batch, key: jax.Array) -> Found:
    def loss(params: Any):
        reduced, after, outputs = evaluate(params, stats, batch, key)
        return total(reduced), (reduced, after, outputs)

    (_, (reduced, after, outputs)), found = jax.value_and_grad(loss, has_aux=True)(params)
    return Found(_laid_like(found, params), reduced, after, outputs)


def _in_parts(evaluate: Evaluate, params: Any, stats: Any, parts: Batch, key: jax.Array) -> Found:
    keys = jax.random.split(key, len(jax.tree.leaves(parts)[0]))
    counts = _counts(evaluate, params, stats, parts, keys)

    def one(carry: Any, part: Any):
        before, added, sums = carry

        def loss(params: Any):
            reduced, after, outputs = evaluate(params, before, *part)
            whole = {n: dataclasses.replace(r, count=counts[n]) for n, r in reduced.items()}
            return total(whole), (whole, after, outputs)

        (_, (whole, after, outputs)), found = jax.value_and_grad(loss, has_aux=True)(params)
        return (after, _plus(added, found), _plus(sums, {n: r.sum for n, r in whole.items()})), (whole, outputs)

    zeros = jax.tree.map(jnp.zeros_like, params)
    (after, found, sums), (whole, outputs) = jax.lax.scan(
        one, (stats, zeros, jax.tree.map(jnp.zeros_like, counts)), (parts, keys)
    )
    reduced = {
        n: Reduced(sums[n], counts[n], r.weight[0], {m: jnp.mean(v, axis=0) for m, v in r.said.items()})
        for n, r in whole.items()
    }
    return Found(_laid_like(found, params), reduced, after, jax.tree.map(_gathered, outputs))


def _laid_like(gradient: Any, params: Any) -> Any:
    """A gradient lies on the devices as the weights that were computed with.

    Where it is kept split afterwards XLA may otherwise move activations, logits among them, to compute parts of it.
    """
    return jax.tree.map(laid_like, gradient, params)


def _counts(evaluate: Evaluate, params: Any, stats: Any, parts: Batch, keys: jax.Array) -> dict[str, jax.Array]:
    """How many values of each term count in the whole batch. They depend on masks alone: XLA drops the forward pass."""

    def of(_: None, part: Any):
        return None, {n: r.count for n, r in evaluate(params, stats, *part)[0].items()}

    return jax.tree.map(lambda c: jnp.sum(c, dtype=jnp.float32), jax.lax.scan(of, None, (parts, keys))[1])


def _dealt(batch: Batch, parts: int) -> Batch:
    """`[batch, ...]` -> `[parts, batch / parts, ...]`, dealt like cards."""
    return jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1), batch)


def _gathered(x: jax.Array) -> jax.Array:
    """The inverse of `_dealt`."""
    return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]) if x.ndim > 1 else x[-1]


def _plus(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)
