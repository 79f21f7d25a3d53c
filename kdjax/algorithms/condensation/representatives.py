"""Real batches of every class, chosen and then held for some steps: at random, or one image near each cluster (DREAM).

All real images stand in `frozen`, `[rows, classes, *image]` as networks see them, row i holding the (i mod n_c)-th
image of class c (`kdjax.data.condensed.by_class`).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from kdjax.algorithms.condensation.matching import taps
from kdjax.errors import UserError
from kdjax.models.model import Model, Outputs
from kdjax.streams import stream
from kdjax.teachers.teacher import Teacher

Choose = Callable[..., jax.Array]
"""`choose(images [rows, classes, *image], variables, *, key) -> rows [count, classes]`.

variables: of the network that it asks, or None.
"""


def held(
    choose: Choose, *, name: str, count: int, every: int = 1, real: str = 'real', network: str | None = None
) -> Teacher:
    """`count` real images of every class, `[count, classes, *image]`, chosen anew at every `every`-th step.

    name: the teacher's own in `play`. real: name in `frozen` of all images. network: address of the variables of the
    network that `choose` asks. Tap: `rows` `[count, classes]`.
    Raises UserError on a count or interval below 1 and where a class has fewer rows.
    """

    def init(frozen, example, variables):
        del example, variables
        available, classes = frozen[real].shape[:2]
        if not 1 <= count <= available or every < 1:
            raise UserError(
                f'{count} real images of each class out of {available}, chosen every {every} steps: take from 1 to '
                'all of them, at an interval of at least 1'
            )
        return jnp.zeros((count, classes), jnp.int32)

    def apply(memory, frozen, view, *, key):
        images = frozen[real]
        asked = None if network is None else view[network]  # read here: what a branch reads stays within it
        if every == 1:
            rows = choose(images, asked, key=key)
        else:
            due = jnp.asarray(view.step, jnp.int32) % every == 0
            rows = jax.lax.cond(due, lambda: choose(images, asked, key=key), lambda: memory)
        batch = jnp.take_along_axis(images, rows.reshape(*rows.shape, *(1,) * (images.ndim - 2)), axis=0)
        return Outputs(batch, {'rows': rows})

    def update(memory, view, variables):
        del variables
        return view.outputs(name).taps['rows'] if name in view else memory

    return Teacher(apply, init, update)


def at_random(count: int) -> Choose:
    """Rows of each class without repeats."""

    def choose(images, variables, *, key):
        del variables
        rows, classes = images.shape[:2]
        orders = jax.vmap(lambda k: jax.random.permutation(k, jnp.arange(rows, dtype=jnp.int32)))
        return orders(jax.random.split(stream(key, 'rows'), classes)).T[:count]

    return choose


def near_centres(model: Model, *, count: int, tap: str = 'pooled', iterations: int = 20) -> Choose:
    """The image nearest to each of `count` cluster centres of a class, by what a network says at `tap`.

    As many clusters as the batch has images: one representative of each, not the
    neighbours of few centres. An image nearest to two centres is taken twice, as in the released code.
    Source: DREAM, arXiv 2302.14416, section 3.2, and new_strategy.py (query).
    """

    def choose(images, variables, *, key):
        features = jax.lax.stop_gradient(taps(model, variables, images, key=stream(key, 'embed'))[tap])
        by_class = jnp.moveaxis(features.reshape(*features.shape[:2], -1), 1, 0)
        keys = jax.random.split(stream(key, 'clusters'), len(by_class))

        def nearest(own, key):
            return jnp.argmin(squares(centres(own, count, key=key, iterations=iterations), own), axis=1)

        return jax.vmap(nearest)(by_class, keys).T.astype(jnp.int32)

    return choose


def centres(features: jax.Array, clusters: int, *, key: jax.Array, iterations: int) -> jax.Array:
    """Of k-means, `[clusters, width]` of `[examples, width]`: Lloyd's steps from distinct examples drawn at random.

    A cluster that loses its last example keeps its centre.
    """
    start = features[jax.random.permutation(key, len(features))[:clusters]]

    def step(_, middle):
        own = jax.nn.one_hot(jnp.argmin(squares(features, middle), axis=1), clusters, dtype=features.dtype)
        number = jnp.sum(own, axis=0)[:, None]
        return jnp.where(number > 0, own.T @ features / jnp.maximum(number, 1.0), middle)

    return jax.lax.fori_loop(0, iterations, step, start)


def squares(a: jax.Array, b: jax.Array) -> jax.Array:
    """Squared distances, `[rows of a, rows of b]`, at least 0."""
    apart = jnp.sum(a * a, axis=1)[:, None] - 2 * a @ b.T + jnp.sum(b * b, axis=1)[None]
    return jnp.maximum(apart, 0.0)
