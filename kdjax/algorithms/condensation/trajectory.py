"""Trajectory matching: training on the set from an expert's start should end where the expert is some epochs later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.algorithms.condensation.experts import check_experts
from kdjax.algorithms.condensation.sets import flat
from kdjax.algorithms.condensation.unrolled import FINITE, finite_steps, unrolled
from kdjax.errors import UserError
from kdjax.models.model import Model
from kdjax.streams import stream


def trajectory_matching(
    images: jax.Array,
    labels: jax.Array,
    rate: jax.Array,
    piece: Mapping[str, Any],
    *,
    model: Model,
    steps: int,
    batch: int,
    key: jax.Array,
    estimator: str = 'exact',
    last: int | None = None,
    augment: Callable[..., jax.Array] | None = None,
    mirrored: bool = False,
    threshold: float | int | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """|theta_steps - target|^2 / |start - target|^2 after training on the set from `start`, `[1]`.

    Beside it, for the log, `FINITE`: how many inner losses are finite before the first that is not. A run that
    diverges names that step.

    images, labels: `[per_class, classes, ...]`, labels distributions; rate: of the inner steps, a scalar. All three are
    differentiated, through `estimator` of `unrolled`. piece: `{'start', 'target'}`, parameters, constants.
    batch: images in an inner step, drawn without replacement until fewer are left; at most the set.
    augment: drawn anew at every inner step. mirrored: every minibatch with its mirror images (FYI).
    threshold: a loss above it counts 0, without gradient (DATM skips such updates; a momentum still moves).
    Raises UserError on minibatches larger than the set, and on experts of another network or of other images.
    Sources: MTT, arXiv 2203.11932; FTD, arXiv 2211.11004; DATM, arXiv 2310.05773; TESLA, arXiv 2211.10586.
    """
    data = _stored(images, labels, batch)
    check_experts(piece['start'], model, images.shape[2:], axes=0)
    piece = jax.lax.stop_gradient(piece)
    loss = _set_loss(model, batch, order=stream(key, 'order'), augment=augment, mirrored=mirrored)
    end, inner = unrolled(
        loss, piece['start'], data, rate, steps=steps, key=stream(key, 'inner'), estimator=estimator, last=last
    )
    rows = (parameter_row(tree) for tree in (end, piece['target'], piece['start']))
    value = losses.trajectory_distance(*rows)
    value = value if threshold is None else jnp.where(value > threshold, jnp.zeros_like(value), value)
    return value, {FINITE: finite_steps(inner)}


def accumulated_error(
    images: jax.Array,
    labels: jax.Array,
    rate: jax.Array,
    way: Any,
    *,
    model: Model,
    steps: int,
    batch: int,
    ahead: int,
    key: jax.Array,
    augment: Callable[..., jax.Array] | None = None,
) -> jax.Array:
    """|theta_n - way_{n ahead}|^2 / |way_0 - way_{n ahead}|^2 for n = 1, 2, ..., `[epochs // ahead]`.

    theta_n is after n * steps steps on the set from the expert's first parameters alone: unlike in matching, errors of
    earlier pieces stay in it, as they do where a network learns from the set. way: an expert's, `[epochs + 1, ...]`;
    the rest as of `trajectory_matching`. Source: FTD, arXiv 2211.11004, section 3 (there without a denominator).
    """
    data = _stored(images, labels, batch)
    loss = _set_loss(model, batch, order=stream(key, 'order'), augment=augment)
    first = jax.tree.map(lambda a: a[0], way)

    def piece(params: Any, n: jax.Array) -> tuple[Any, jax.Array]:
        draw = stream(key, 'piece', n)

        def one(params: Any, i: jax.Array) -> tuple[Any, None]:
            slope = jax.grad(loss)(params, data, step=n * steps + i, key=jax.random.fold_in(draw, i))
            return jax.tree.map(lambda p, g: p - rate * g, params, slope), None

        params, _ = jax.lax.scan(one, params, jnp.arange(steps, dtype=jnp.int32))
        target = jax.tree.map(lambda a: a[(n + 1) * ahead], way)
        rows = (parameter_row(tree) for tree in (params, target, first))
        return params, losses.trajectory_distance(*rows)[0]

    pieces = (len(jax.tree.leaves(way)[0]) - 1) // ahead
    return jax.lax.scan(piece, first, jnp.arange(pieces, dtype=jnp.int32))[1]


def _stored(images: jax.Array, labels: jax.Array, batch: int) -> dict[str, jax.Array]:
    seen, said = flat(images, labels)
    if not 1 <= batch <= len(seen):
        raise UserError(f'batch={batch} of a set of {len(seen)}: inner steps take from 1 image to all of them')
    return {'image': seen, 'label': said}


def _set_loss(
    model: Model,
    batch: int,
    *,
    order: jax.Array,
    augment: Callable[..., jax.Array] | None = None,
    mirrored: bool = False,
) -> Callable[..., jax.Array]:
    """The mean cross-entropy of a step's minibatch of the set."""

    def loss(params, data, *, step, key):
        rows = minibatch(step, len(data['image']), batch, key=order)
        x, y = data['image'][rows], data['label'][rows]
        if mirrored:
            x, y = jnp.concatenate([x, x[..., ::-1, :]]), jnp.concatenate([y, y])
        x = x if augment is None else augment(x, key=stream(key, 'augment'))
        outputs = model.apply({'params': params, 'stats': {}}, x, key=stream(key, 'forward'), train=True)[0]
        return jnp.mean(losses.cross_entropy(outputs.prediction, y))

    return loss


def minibatch(step: jax.Array, size: int, batch: int, *, key: jax.Array) -> jax.Array:
    """The rows `[batch]` of a step: consecutive parts of a permutation, a new one where fewer than `batch` are left."""
    parts = size // batch
    order = jax.random.permutation(jax.random.fold_in(key, step // parts), jnp.arange(size, dtype=jnp.int32))
    return jax.lax.dynamic_slice(order, (batch * (step % parts),), (batch,))


def parameter_row(params: Any) -> jax.Array:
    """All parameters as one row, `[1, number]`."""
    return jnp.concatenate([leaf.reshape(1, -1) for leaf in jax.tree.leaves(params)], axis=1)
