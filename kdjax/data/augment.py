"""Augmentation as pure functions of a key, on a whole batch inside jit.

Each function draws once for the batch; example i uses row i of the draw. Threefry is partitionable, so the
draws, and with them the batch, are the same whatever the sharding.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, PRNGKeyArray, Shaped, UInt8

Images = Shaped[Array, 'batch height width channels']
FloatImages = Float[Array, 'batch height width channels']


def prepare(
    images: FloatImages | UInt8[Array, 'batch height width channels'],
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Float[Array, 'batch height width channels']:
    """(x - mean) / std per channel, in float32; uint8 is divided by 255 first."""
    scale = 1 / 255 if images.dtype == jnp.uint8 else 1.0
    centre, spread = (jnp.asarray(values, jnp.float32)[None, None, None, :] for values in (mean, std))
    return (images.astype(jnp.float32) * scale - centre) / spread


def shift(images: Images, offsets: Int[Array, 'batch 2'], *, reach: int) -> Images:
    """Move image i by offsets[i] = (down, right) pixels, at most `reach` of them; zeros come in."""
    padded = jnp.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)))

    def window(image, offset):
        start = (reach - offset[0], reach - offset[1], jnp.zeros((), offset.dtype))
        return jax.lax.dynamic_slice(image, start, images.shape[1:])

    return jax.vmap(window)(padded, offsets)


def random_crop(images: Images, *, key: PRNGKeyArray, padding: int) -> Images:
    """Pad by `padding` zeros on every side and crop back to the size at random (arXiv 1512.03385).

    The same as a shift by -padding .. padding, uniform in each direction.
    """
    if padding == 0:
        return images
    offsets = jax.random.randint(key, (len(images), 2), -padding, padding + 1, jnp.int32)
    return shift(images, offsets, reach=padding)


def random_flip(images: Images, *, key: PRNGKeyArray) -> Images:
    """Mirror every image left to right with probability 1/2."""
    mirrored = jax.random.bernoulli(key, 0.5, (len(images),))
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def augment(images: Images, *, key: PRNGKeyArray, flip: bool, padding: int) -> Images:
    """Random crop, then (if `flip`) a random mirror: the usual recipe for small images, before `prepare`."""
    crop_key, flip_key = jax.random.split(key)
    images = random_crop(images, key=crop_key, padding=padding)
    return random_flip(images, key=flip_key) if flip else images


def mixup(
    images: FloatImages,
    labels: Integer[Array, ' batch'] | Float[Array, 'batch classes'],
    *,
    key: PRNGKeyArray,
    classes: int,
    alpha: float = 1.0,
) -> tuple[FloatImages, Float[Array, 'batch classes']]:
    """l x + (1 - l) x', l y + (1 - l) y', where (x', y') is the batch permuted and l ~ Beta(alpha, alpha).

    One l for the batch, as in the paper (arXiv 1710.09412). Labels are classes, or already distributions;
    distributions come out. Raises `ValueError` unless alpha > 0.
    """
    if alpha <= 0:
        raise ValueError(f'mixup: alpha={alpha} must be positive; leave mixup out instead of alpha=0')
    order_key, weight_key = jax.random.split(key)
    order = jax.random.permutation(order_key, len(images))
    weight = jax.random.beta(weight_key, alpha, alpha, dtype=jnp.float32)
    soft = labels if labels.ndim == 2 else jax.nn.one_hot(labels, classes, dtype=jnp.float32)
    return _mix(images, order, weight), _mix(soft, order, weight)


def _mix(values: jax.Array, order: jax.Array, weight: jax.Array) -> jax.Array:
    weight = weight.astype(values.dtype)
    return weight * values + (1 - weight) * values[order]
