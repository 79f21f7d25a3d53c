"""Experts: networks trained on all the data, whose parameters after every epoch a set is matched to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax import losses
from kdjax.errors import UserError
from kdjax.models.model import Model, Outputs
from kdjax.streams import stream
from kdjax.teachers.teacher import Teacher


def flat_gradient(
    loss: Callable[[Any], jax.Array], params: Any, *, radius: float | int, weight: float | int
) -> tuple[jax.Array, Any]:
    """The loss, and GSAM's direction: the gradient g' at the worst point nearby, minus `weight` times v.

    The point is params + radius w^2 g / | |w| g |, with w the parameters themselves (adaptive sharpness), g their
    gradient; v is g without its component along g'. weight 0 is adaptive SAM; radius 0 the plain gradient.
    Sources: GSAM, arXiv 2203.08065; FTD, arXiv 2211.11004, equations 10-13, and its gsam.py.
    """
    value, gradient = jax.value_and_grad(loss)(params)
    length = optax.tree.norm(jax.tree.map(lambda w, g: jnp.abs(w) * g, params, gradient))
    step = radius / (length + 1e-12)
    worst = jax.grad(loss)(jax.tree.map(lambda w, g: w + step * jnp.square(w) * g, params, gradient))
    square = optax.tree.vdot(worst, worst)
    share = optax.tree.vdot(gradient, worst) / jnp.where(square > 0, square, 1.0)
    return value, jax.tree.map(lambda g, h: h - weight * (g - share * h), gradient, worst)


def expert(
    model: Model,
    images: jax.Array,
    labels: jax.Array,
    *,
    key: jax.Array,
    epochs: int,
    batch: int,
    rate: float | int,
    augment: Callable[..., jax.Array] | None = None,
    radius: float | int = 0.0,
    weight: float | int = 1.0,
) -> Any:
    """The parameters of one network before training and after every epoch, a tree of `[epochs + 1, ...]`.

    Plain gradient descent at a constant rate on minibatches without replacement, a last incomplete one left out, as
    MTT trains its experts; radius > 0 takes `flat_gradient` (FTD), which costs two gradients a step.
    images `[examples, *image]` as networks see them; labels class ids. A pure function: `jax.lax.map` over keys makes a
    buffer `[experts, epochs + 1, ...]`. Raises UserError where a minibatch is larger than the data, and on a network
    that keeps statistics.
    """
    check_without_statistics(model, images)
    if not 1 <= batch <= len(images):
        raise UserError(f'batch={batch} of {len(images)} images that experts learn from: choose from 1 to as many')
    variables = model.init(stream(key, 'init'), jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32))
    steps = len(images) // batch

    def one(params, place):
        rows, draw = place
        seen = images[rows] if augment is None else augment(images[rows], key=draw)

        def loss(params):
            said = model.apply({**variables, 'params': params}, seen, key=draw, train=True)[0]
            return jnp.mean(losses.cross_entropy(said.prediction, labels[rows]))

        slope = flat_gradient(loss, params, radius=radius, weight=weight)[1] if radius else jax.grad(loss)(params)
        return jax.tree.map(lambda p, g: p - rate * g, params, slope), None

    def epoch(params, number):
        draw = stream(key, 'epoch', number)
        rows = jax.random.permutation(draw, len(images))[: steps * batch].reshape(steps, batch)
        params, _ = jax.lax.scan(one, params, (rows, jax.random.split(draw, steps)))
        return params, params

    start = variables['params']
    _, after = jax.lax.scan(epoch, start, jnp.arange(epochs, dtype=jnp.int32))
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, after)


def check_without_statistics(model: Model, images: Any) -> None:
    """Raises `UserError` if a forward pass moves statistics: trajectories are of parameters alone."""
    example = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    if jax.tree.leaves(jax.eval_shape(lambda: model.init(jax.random.key(0), example))['stats']):
        raise UserError(f"'{model.name}' keeps statistics of batches, which no trajectory holds: take norm='instance'")


def check_experts(experts: Any, model: Model, image_shape: tuple[int, ...], *, axes: int = 2) -> None:
    """Raises `UserError` unless the buffer `[experts, epochs + 1, ...]` is of this network, for images of this shape.

    axes: how many stand before those of a parameter; 0 for one network's.
    """
    example = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    wanted = jax.eval_shape(lambda: model.init(jax.random.key(0), example))['params']
    shapes = [dict(_shapes(tree, skipped)) for tree, skipped in ((experts, axes), (wanted, 0))]
    if shapes[0] != shapes[1]:
        other = sorted(set(shapes[0].items()) ^ set(shapes[1].items()))[0]
        raise UserError(
            f"these experts are of another network than '{model.name}' for images {list(image_shape)}, or of other "
            f'data: they differ at {other[0]} {other[1]}; train experts of this one, or match with theirs'
        )


def _shapes(tree: Any, skipped: int) -> Any:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator='/'), tuple(leaf.shape[skipped:])


def window(
    step: Any, *, first: int, last: int, begin: int | None = None, grows: int = 1
) -> tuple[jax.Array, jax.Array]:
    """The epochs that a start is drawn from at a step of the set: first .. upper - 1.

    upper grows from `begin` (default `last`: at once) to `last` over `grows` steps: min(last, begin + floor((last -
    begin) step / grows)). Early windows suit small sets, late ones large sets.
    Source: DATM, arXiv 2310.05773, section 3.3, and its DATM.py; MTT and FTD have first = 0 and a fixed upper end.
    Raises UserError where a window is empty.
    """
    begin = last if begin is None else begin
    if not 0 <= first < begin <= last or grows < 1:
        raise UserError(f'start epochs {first} .. {begin} -> {last}: they need 0 <= first < begin <= last')
    grown = begin + (last - begin) * jnp.minimum(jnp.asarray(step, jnp.int32), grows) // grows
    return jnp.asarray(first, jnp.int32), jnp.minimum(grown, last).astype(jnp.int32)


def drawn_from(experts: str, *, ahead: int, **windows: int) -> Teacher:
    """A piece of an expert's way: the prediction is `{'start', 'target'}`, `ahead` epochs apart; tap `epoch`.

    experts: name in `frozen` of the buffer. windows: of `window`.
    Raises UserError where targets would lie beyond the last epoch.
    """

    def apply(memory, frozen, view, *, key):
        del memory
        buffer = frozen[experts]
        many, stored = jax.tree.leaves(buffer)[0].shape[:2]
        if windows['last'] - 1 + ahead > stored - 1:
            raise UserError(
                f"a start up to epoch {windows['last'] - 1} and a target {ahead} later, but '{experts}' ends at epoch "
                f'{stored - 1}: lower last or ahead, or train experts for longer'
            )
        first, upper = window(view.step, **windows)
        which = jax.random.randint(stream(key, 'expert'), (), 0, many, jnp.int32)
        epoch = jax.random.randint(stream(key, 'epoch'), (), first, upper, jnp.int32)
        start, target = (jax.tree.map(lambda a, at=at: a[which, at], buffer) for at in (epoch, epoch + ahead))
        return Outputs({'start': start, 'target': target}, {'epoch': epoch})

    return Teacher(apply)


def logits_of_the_right(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean logits over the experts that classify an image correctly.

    `[images, classes]` of `[experts, images, classes]`.
    Where none does, 5 for the class and 0 elsewhere (the released code of DATM divides by 0 there).
    Source: DATM, arXiv 2310.05773, section 3.4.
    """
    right = (jnp.argmax(logits, axis=-1) == labels[None]).astype(logits.dtype)
    count = jnp.sum(right, axis=0)[:, None]
    mean = jnp.sum(right[..., None] * logits, axis=0) / jnp.maximum(count, 1.0)
    return jnp.where(count > 0, mean, 5.0 * jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype))
