"""What a set is matched to, class by class: gradients, mean embeddings, attention, characteristic functions.

Real and synthetic images are `[examples, classes, *image]`, image [i, c] of class c; the two may have different
numbers of examples. Every objective returns one value for each class, `[classes]`, so that its mean over classes is
minimised; the published sums are `classes` times that. Networks come as their variables and are constants; real
images are constants too. All take `augment`, a function of images and a key that is called with one key for both
sides (`siamese`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.errors import UserError
from kdjax.models.model import Model, Variables
from kdjax.streams import stream

Augment = Callable[..., jax.Array]
"""`augment(images, *, key) -> images`, the same for every call with one key."""


def both(images: jax.Array, real: jax.Array, augment: Augment | None, key: jax.Array, *, mirrored: bool = False):
    """The two sides as a network sees them; `mirrored` adds the synthetic images' mirror images before the draw.

    Source of mirrored: FYI, arXiv 2407.08113; only the set itself is stored.
    """
    check_sides(images, real)
    if mirrored:
        images = jnp.concatenate([images, images[..., ::-1, :]])
    if augment is not None:
        draw = stream(key, 'augment')
        images, real = augment(images, key=draw), augment(real, key=draw)
    return images, jax.lax.stop_gradient(real)


def check_sides(images: jax.Array, real: jax.Array) -> None:
    """Raises UserError unless both are `[examples, classes, *image]` of the same classes and images."""
    if images.ndim < 3 or images.ndim != real.ndim or images.shape[1:] != real.shape[1:]:
        raise UserError(
            f'synthetic images have shape {images.shape}, real ones {real.shape}: both need '
            '[examples, classes, *image] with the same classes and images, as `by_class` arranges a data set'
        )


def gradient_matching(
    images: jax.Array,
    labels: jax.Array,
    real: jax.Array,
    variables: Variables,
    *,
    model: Model,
    key: jax.Array,
    augment: Augment | None = None,
    mirrored: bool = False,
) -> jax.Array:
    """DC and, with `augment`, DSA: the sum over layers and rows of 1 - cos of the gradients of the mean cross-entropy.

    labels `[per_class, classes, classes]` of the synthetic images; real ones have their class. Kernels enter as rows of
    one output each, biases and scales not at all. `[classes]`, from 0 to twice the number of rows.
    Sources: DC, arXiv 2006.05929, equation 9; DSA, arXiv 2102.08259; their utils.py (match_loss, 'ours').
    """
    images, real = both(images, real, augment, key, mirrored=mirrored)
    labels = jnp.concatenate([labels, labels]) if mirrored else labels
    one_hot = jnp.eye(real.shape[1], dtype=jnp.float32)
    targets = jnp.broadcast_to(one_hot[None], (*real.shape[:2], real.shape[1]))
    slopes = partial(class_gradients, model, variables, key=stream(key, 'forward'))
    wanted = jax.lax.stop_gradient(slopes(real, targets))
    return gradient_distance(slopes(images, labels), wanted)


def class_gradients(model: Model, variables: Variables, images: jax.Array, labels: jax.Array, *, key: jax.Array) -> Any:
    """Of each class's mean cross-entropy in the parameters: a tree of `[classes, ...]`."""

    def mean_loss(params, images, labels):
        said = model.apply({**variables, 'params': params}, images, key=key, train=True)[0]
        return jnp.mean(losses.cross_entropy(said.prediction, labels))

    return jax.vmap(jax.grad(mean_loss), (None, 1, 1))(variables['params'], images, labels)


def gradient_distance(gradients: Any, wanted: Any) -> jax.Array:
    """The sum of `losses.gradient_cosine` over rows and layers, `[classes]`, of two trees of `[classes, ...]`.

    A kernel `[classes, *space, in, out]` becomes rows `[classes * out, *space * in]`; reshaped without moving outputs
    first, the rows would mix outputs, and the loss would be another. Leaves of one axis beside classes are left out.
    Raises UserError where nothing is left.
    """
    pairs = list(zip(jax.tree.leaves(gradients), jax.tree.leaves(wanted), strict=True))
    kernels = [(g, w) for g, w in pairs if g.ndim > 2]
    if not kernels:
        raise UserError('gradients of no kernel can be matched: the network has vectors and scalars alone')
    values: Any = 0
    for gradient, other in kernels:
        rows = [jnp.moveaxis(x, -1, 1).reshape(x.shape[0] * x.shape[-1], -1) for x in (gradient, other)]
        values = values + jnp.sum(losses.gradient_cosine(*rows).reshape(gradient.shape[0], -1), axis=1)
    return values


def mean_embedding(
    images: jax.Array,
    real: jax.Array,
    variables: Variables,
    *,
    model: Model,
    key: jax.Array,
    tap: str = 'pooled',
    augment: Augment | None = None,
    mirrored: bool = False,
) -> jax.Array:
    """DM: |mean real feature - mean synthetic feature|^2 of each class, summed over features, `[classes]`.

    tap: the feature; of a ConvNet `pooled` is the last map after its pooling, flattened.
    Source: DM, arXiv 2110.04181, equation 4, and its main_DM.py.
    """
    images, real = both(images, real, augment, key, mirrored=mirrored)
    means = (jnp.mean(taps(model, variables, x, key=key)[tap], axis=0) for x in (images, real))
    return _square_distance(*means)


def attention_matching(
    images: jax.Array,
    real: jax.Array,
    variables: Variables,
    *,
    model: Model,
    key: jax.Array,
    maps: Sequence[str],
    power: float | int = 4,
    embedding: float | int = 0.01,
    tap: str = 'pooled',
    augment: Augment | None = None,
    mirrored: bool = False,
) -> jax.Array:
    """DataDAM: distances of mean attention maps of the layers `maps`, plus `embedding` times that of mean features.

    A map is the sum over channels of |A|^power, flattened, each image's own divided by its length before the mean.
    power: 4 in the paper's table, where the released code runs with 1 (and multiplies all by 100).
    maps: every block but the last, whose place the features take. `[classes]`, at least 0.
    Source: DataDAM, arXiv 2310.00093, equations 2-4, and main_DataDAM.py.
    """
    images, real = both(images, real, augment, key, mirrored=mirrored)
    synthetic, wanted = (taps(model, variables, x, key=key) for x in (images, real))
    values = embedding * _square_distance(*(jnp.mean(said[tap], axis=0) for said in (synthetic, wanted)))
    for name in maps:
        means = (jnp.mean(_attention(said[name], power), axis=0) for said in (synthetic, wanted))
        values = values + _square_distance(*means)
    return values


def characteristic_matching(
    images: jax.Array,
    real: jax.Array,
    variables: Variables,
    frequencies: jax.Array,
    *,
    model: Model,
    key: jax.Array,
    tap: str = 'pooled',
    amplitude: float | int = 0.5,
    phase: float | int = 0.5,
    augment: Augment | None = None,
    mirrored: bool = False,
) -> jax.Array:
    """NCFM: the distance of characteristic functions of unit-length features, the mean over frequencies, `[classes]`.

    frequencies `[number, features]`: standard normal, or `ascending(sampler's output)`; see `losses`. The code
    multiplies the mean by 300. Features are scaled to length 1, or else normal frequencies wrap the phase.
    Source: NCFM, arXiv 2502.20653, equation 6; NCFM.py.
    """
    images, real = both(images, real, augment, key, mirrored=mirrored)
    features = (_unit(taps(model, variables, x, key=key)[tap]) for x in (images, real))
    sides = [part for f in features for part in characteristic(f, frequencies)]
    distance = partial(losses.characteristic_distance, amplitude=amplitude, phase=phase)
    return jnp.mean(jax.vmap(distance)(*sides), axis=1)


def characteristic(features: jax.Array, frequencies: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean cosine and sine of <frequency, feature>: `[classes, number]` of `[examples, classes, width]`."""
    if frequencies.shape[-1] != features.shape[-1]:
        raise UserError(
            f'frequencies of width {frequencies.shape[-1]} for features of width {features.shape[-1]}: draw them for '
            'the features that are matched'
        )
    angles = jnp.einsum('ncf,mf->ncm', features, frequencies)
    return jnp.mean(jnp.cos(angles), axis=0), jnp.mean(jnp.sin(angles), axis=0)


@jax.custom_vjp
def ascending(x: Any) -> Any:
    """x, whose gradient has the other sign: what is learned through it rises while the rest descends.

    One `value_and_grad` then makes a step of a min-max game, where the released code of NCFM adds a gradient and its
    negative, and so trains no sampler.
    """
    return x


ascending.defvjp(lambda x: (x, None), lambda _, gradient: (jax.tree.map(jnp.negative, gradient),))


def taps(model: Model, variables: Variables, images: jax.Array, *, key: jax.Array) -> dict[str, jax.Array]:
    """All taps of a constant network on `[examples, classes, *image]`, `[examples, classes, ...]` each.

    With batch statistics those of all the images given, as in training.
    """
    constants = jax.lax.stop_gradient(variables)
    flat = images.reshape(-1, *images.shape[2:])
    said = model.apply(constants, flat, key=stream(key, 'forward'), train=True)[0]
    return {name: tap.reshape(*images.shape[:2], *tap.shape[1:]) for name, tap in said.taps.items()}


def _square_distance(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(a - b).reshape(a.shape[0], -1), axis=1)


def _attention(maps: jax.Array, power: float | int) -> jax.Array:
    """`[examples, classes, places]` of length 1, from `[examples, classes, h, w, channels]`."""
    flat = maps.reshape(*maps.shape[:2], -1, maps.shape[-1])
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(flat), axis=(2, 3), keepdims=True))
    energies = jnp.sum((jnp.abs(flat) / jnp.where(largest > 0, largest, 1.0)) ** power, axis=-1)
    return _unit(energies)


def _unit(x: jax.Array) -> jax.Array:
    """x / |x| along the last axis; a vector of zeros stays, without gradient."""
    squares = jnp.sum(x * x, axis=-1, keepdims=True)
    alive = squares > 0
    return x * jnp.where(alive, jax.lax.rsqrt(jnp.where(alive, squares, 1.0)), 0.0)
