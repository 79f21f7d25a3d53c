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
) -> jax.Array:
    """The distance of `watched_matching` alone, `[1]`."""
    return watched_matching(
        images, labels, rate, piece, model=model, steps=steps, batch=batch, key=key, estimator=estimator, last=last,
        augment=augment, mirrored=mirrored, threshold=threshold,
    )[0]  # fmt: skip


def watched_matching(
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
    seen, said = flat(images, labels)
    if not 1 <= batch <= len(seen):
        raise UserError(f'batch={batch} of a set of {len(seen)}: inner steps take from 1 image to all of them')
    check_experts(piece['start'], model, images.shape[2:], axes=0)
    piece = jax.lax.stop_gradient(piece)

    def loss(params, data, *, step, key):
        rows = minibatch(step, len(data['image']), batch, key=order)
        x, y = data['image'][rows], data['label'][rows]
        if mirrored:
            x, y = jnp.concatenate([x, x[..., ::-1, :]]), jnp.concatenate([y, y])
        x = x if augment is None else augment(x, key=stream(key, 'augment'))
        outputs = model.apply({'params': params, 'stats': {}}, x, key=stream(key, 'forward'), train=True)[0]
        return jnp.mean(losses.cross_entropy(outputs.prediction, y))

    order = stream(key, 'order')
    end, inner = unrolled(
        loss, piece['start'], {'image': seen, 'label': said}, rate,
        steps=steps, key=stream(key, 'inner'), estimator=estimator, last=last,
    )  # fmt: skip
    rows = (parameter_row(tree) for tree in (end, piece['target'], piece['start']))
    value = losses.trajectory_distance(*rows)
    value = value if threshold is None else jnp.where(value > threshold, jnp.zeros_like(value), value)
    return value, {FINITE: finite_steps(inner)}


def minibatch(step: jax.Array, size: int, batch: int, *, key: jax.Array) -> jax.Array:
    """The rows `[batch]` of a step: consecutive parts of a permutation, a new one where fewer than `batch` are left."""
    parts = size // batch
    order = jax.random.permutation(jax.random.fold_in(key, step // parts), jnp.arange(size, dtype=jnp.int32))
    return jax.lax.dynamic_slice(order, (batch * (step % parts),), (batch,))


def parameter_row(params: Any) -> jax.Array:
    """All parameters as one row, `[1, number]`."""
    return jnp.concatenate([leaf.reshape(1, -1) for leaf in jax.tree.leaves(params)], axis=1)
