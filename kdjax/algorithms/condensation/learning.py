"""Networks that learn from a small set: what an evaluation is made of, one player a network, or many as one program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax import losses
from kdjax.algorithms.condensation.mosaics import decoded, repeated_labels
from kdjax.algorithms.condensation.sets import flat
from kdjax.algorithms.condensation.trajectory import minibatch
from kdjax.models.model import Model, Outputs, Variables
from kdjax.streams import stream
from kdjax.teachers.teacher import Teacher

Augment = Callable[..., jax.Array]
"""`augment(images [batch, H, W, C], *, key) -> images`."""


def learned_from(model: Model, *, name: str, batch: int, augment: Augment | None = None, factor: int = 1) -> Teacher:
    """Minibatches of a stored set, in the place of the batch: the prediction is images, `[batch, *image]`.

    Taps: `label` class ids, `soft` the set's own distributions `[batch, classes]`. Students have `reads=('set',)` and
    the objective `term(losses.cross_entropy, 'student', 'set.label')`, where `set` is this teacher; a teacher that
    relabels reads 'set' too, so that it sees the same crops.

    model: of the set (`synthetic_set`). name: of its variables in `frozen`. batch: drawn anew at every
    step, without repeats; larger than the set is all of it.
    augment: drawn once a step for the whole minibatch, example by example as it does. factor: of mosaics.
    """

    def apply(memory, frozen, view, *, key):
        del memory
        images, labels = _everything(model, frozen[name], factor)
        size = min(batch, len(images))
        rows = jax.random.permutation(stream(key, 'rows'), len(images))[:size]
        seen = images[rows] if augment is None else augment(images[rows], key=stream(key, 'augment'))
        soft = labels[rows]
        return Outputs(seen, {'label': jnp.argmax(soft, axis=-1).astype(jnp.int32), 'soft': soft})

    return Teacher(apply)


def _everything(model: Model, variables: Variables, factor: int) -> tuple[jax.Array, jax.Array]:
    said, _ = model.apply(variables, None, key=jax.random.key(0), train=False)
    images, labels = said.prediction, said.taps['label']
    if factor > 1:
        images, labels = decoded(images, factor), repeated_labels(labels, factor)
    return flat(images, labels)


def trained(
    model: Model,
    images: jax.Array,
    labels: jax.Array,
    *,
    key: jax.Array,
    steps: int,
    batch: int,
    optimizer: optax.GradientTransformation,
    augment: Augment | None = None,
) -> Variables:
    """The variables of one network after `steps` on a set: images `[examples, *image]`, labels distributions.

    A pure function of the key: `many` trains as many as there are keys by one compiled program.
    """
    example = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    variables = model.init(stream(key, 'init'), example)
    size = min(batch, len(images))

    def one(state, i):
        variables, optimizer_state = state
        draw = stream(key, 'step', i)
        rows = minibatch(i, len(images), size, key=stream(key, 'order'))
        seen = images[rows] if augment is None else augment(images[rows], key=stream(draw, 'augment'))

        def loss(params):
            said, after = model.apply({**variables, 'params': params}, seen, key=stream(draw, 'forward'), train=True)
            return jnp.mean(losses.cross_entropy(said.prediction, labels[rows])), after['stats']

        gradient, stats = jax.grad(loss, has_aux=True)(variables['params'])
        with jax.numpy_dtype_promotion('standard'):  # optax raises floats to the power of integer counts
            change, optimizer_state = optimizer.update(gradient, optimizer_state, variables['params'])
        return ({'params': optax.apply_updates(variables['params'], change), 'stats': stats}, optimizer_state), None

    start = variables, optimizer.init(variables['params'])
    (variables, _), _ = jax.lax.scan(one, start, jnp.arange(steps, dtype=jnp.int32))
    return variables


def many(
    model: Model, images: jax.Array, labels: jax.Array, *, keys: jax.Array, at_once: bool, **options: Any
) -> Variables:
    """`trained` for each key, by one program: variables `[networks, ...]`.

    at_once: all side by side (vmap), which pays for dense networks; otherwise one after the other, for convolutions.
    """
    one = partial(_trained_from, model=model, images=images, labels=labels, options=options)
    return jax.vmap(one)(keys) if at_once else jax.lax.map(one, keys)


def _trained_from(key: jax.Array, *, model: Model, images: jax.Array, labels: jax.Array, options: Mapping[str, Any]):
    return trained(model, images, labels, key=key, **options)


def accuracies(model: Model, variables: Variables, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Of each of many networks, `[networks]`, in 0..1: variables `[networks, ...]`, class ids of real images."""

    def one(variables):
        said, _ = model.apply(variables, images, key=jax.random.key(0), train=False)
        return jnp.mean(jnp.argmax(said.prediction, axis=-1) == labels, dtype=jnp.float32)

    return jax.lax.map(one, variables)
