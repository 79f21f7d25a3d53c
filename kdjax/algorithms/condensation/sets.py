"""The small set as a player: images, labels and perhaps the rate at which networks learn from it, all learned."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax.errors import UserError
from kdjax.models.model import Model, Outputs, Variables

PARTS = ('image', 'label_logits', 'log_rate')
"""What of a set can be learned: the leaves of its parameters."""


def synthetic_set(
    image_shape: tuple[int, ...],
    *,
    classes: int,
    per_class: int,
    soft_labels: bool = False,
    rate: float | int | None = None,
) -> Model:
    """A set of `per_class` images of every class, as a Model without inputs.

    Prediction: images `[per_class, classes, *image_shape]`, as networks see them; image [i, c] is of class c.
    Taps: `label` `[per_class, classes, classes]`, distributions: one-hot, or with `soft_labels` the softmax of learned
    logits that start at 5 for the class; `rate`, a scalar, where networks are trained on it with a learned rate.
    Images start as standard normal noise: to start from chosen ones, put `started(...)` into `frozen` and name it with
    `Player(start=...)`. The rate is learned as its logarithm, so that it stays positive (ours; MTT learns it itself).
    Raises UserError on a set of nothing.
    """
    if per_class < 1 or classes < 2:
        raise UserError(f'a set of {per_class} images for each of {classes} classes: at least 1, and 2 classes')

    def init(key: jax.Array, example: Any) -> Variables:
        del example
        image = jax.random.normal(key, (per_class, classes, *image_shape), jnp.float32)
        return started(image, soft_labels=soft_labels, rate=rate)

    def apply(variables, inputs, *, key, train):
        del inputs, key, train
        params = variables['params']
        taps = {'label': _labels(params, per_class, classes)}
        if 'log_rate' in params:
            taps['rate'] = jnp.exp(params['log_rate'])
        return Outputs(params['image'], taps), variables

    learned = f', soft_labels={soft_labels}, rate={rate}'
    return Model(init, apply, f'set-{per_class}(classes={classes}, image_shape={tuple(image_shape)}{learned})')


def started(image: Any, *, logits: Any = None, soft_labels: bool = False, rate: float | int | None = None) -> Variables:
    """Variables of a set that starts with these images `[per_class, classes, ...]` and logits of labels."""
    image = jnp.asarray(image, jnp.float32)
    params = {'image': image}
    if soft_labels or logits is not None:
        hard = 5.0 * _one_hot(*image.shape[:2])
        params['label_logits'] = hard if logits is None else jnp.asarray(logits, jnp.float32)
    if rate is not None:
        params['log_rate'] = jnp.log(jnp.asarray(rate, jnp.float32))
    return {'params': params, 'stats': {}}


def _one_hot(per_class: int, classes: int) -> jax.Array:
    return jnp.broadcast_to(jnp.eye(classes, dtype=jnp.float32)[None], (per_class, classes, classes))


def _labels(params: Any, per_class: int, classes: int) -> jax.Array:
    if 'label_logits' in params:
        return jax.nn.softmax(params['label_logits'])
    return _one_hot(per_class, classes)


def flat(images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`[per_class, classes, ...]` both -> `[per_class * classes, ...]` both."""
    return images.reshape(-1, *images.shape[2:]), labels.reshape(-1, *labels.shape[2:])


def by_part(**optimizers: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer for each part of a set, and of what is learned beside it: `by_part(image=..., log_rate=...)`.

    Names are those of `PARTS`; every other parameter (a sampler's) is trained by `others`. What has none stands still.
    Raises UserError on a name that no part has.
    """
    for name in optimizers:
        if name not in (*PARTS, 'others'):
            raise UserError(f"a set has no part '{name}' to optimise: its parts are {', '.join(PARTS)}, and 'others'")

    def part(path: Any, leaf: Any) -> str:
        del leaf
        name = path[-1].key if len(path) == 2 and path[-1].key in PARTS else 'others'
        return name if name in optimizers else 'still'

    return optax.multi_transform(
        {**optimizers, 'still': optax.set_to_zero()}, lambda params: jax.tree_util.tree_map_with_path(part, params)
    )


def within(
    optimizer: optax.GradientTransformation, low: float | int | jax.Array, high: float | int | jax.Array
) -> optax.GradientTransformation:
    """The optimizer, after whose updates parameters lie in [low, high]: valid pixels."""

    def update(gradients, state, params=None):
        changes, state = optimizer.update(gradients, state, params)
        kept = jax.tree.map(lambda p, c: jnp.clip(p + c, low, high) - p, params, changes)
        return kept, state

    return optax.GradientTransformation(optimizer.init, update)
