"""Differentiable augmentation: the same draw for real and synthetic images, and gradients through it.

Images are `[..., height, width, channels]`; one draw moves all of them in the same way, so that the two sides of a
distance see one transform (siamese augmentation, DSA). Gradients reach pixels through every transform.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from kdjax.errors import UserError, unknown
from kdjax.streams import stream

Images = jax.Array


def siamese(
    images: Images, *, key: jax.Array, strategy: Sequence[str] = ('color', 'crop', 'cutout', 'scale', 'rotate')
):
    """One transform of the strategy, drawn with its parameters by the key alone: the same for every call with it.

    strategy: names of `TRANSFORMS`. 'flip' is for data whose mirror images keep their labels.
    Raises UserError on an empty strategy and on an unknown name.
    Source: DSA, arXiv 2102.08259, section 3.2, and its DiffAugment (one of the strategy at a time).
    """
    if not strategy:
        raise UserError('an augmentation strategy of nothing: name transforms, or leave augmentation out')
    for name in strategy:
        if name not in TRANSFORMS:
            raise unknown('transform', name, TRANSFORMS)
    chosen = jax.random.randint(stream(key, 'transform'), (), 0, len(strategy), jnp.int32)
    draw = stream(key, 'parameters')
    flat = images.reshape(-1, *images.shape[-3:])
    moved = jax.lax.switch(chosen, [lambda x, name=name: TRANSFORMS[name](x, draw) for name in strategy], flat)
    return moved.reshape(images.shape)


def _uniform(key: jax.Array, name: str, low: float, high: float, shape: tuple[int, ...] = ()) -> jax.Array:
    return jax.random.uniform(stream(key, name), shape, jnp.float32, low, high)


def color(images: Images, key: jax.Array) -> Images:
    """Brightness by -0.5 .. 0.5, saturation by a factor of 0 .. 2 and contrast by a factor of 0.5 .. 1.5, in turn."""
    images = images + _uniform(key, 'brightness', -0.5, 0.5)
    grey = jnp.mean(images, axis=-1, keepdims=True)
    images = grey + _uniform(key, 'saturation', 0.0, 2.0) * (images - grey)
    mean = jnp.mean(images, axis=(-3, -2, -1), keepdims=True)
    return mean + _uniform(key, 'contrast', 0.5, 1.5) * (images - mean)


def crop(images: Images, key: jax.Array) -> Images:
    """A shift by up to an eighth of each side; zeros come in."""
    shifts = [int(side * 0.125 + 0.5) for side in images.shape[1:3]]
    padded = jnp.pad(images, ((0, 0), *((s, s) for s in shifts), (0, 0)))
    starts = [
        jax.random.randint(stream(key, f'crop{axis}'), (), 0, 2 * s + 1, jnp.int32) for axis, s in enumerate(shifts)
    ]
    zero = jnp.zeros((), jnp.int32)
    return jax.lax.dynamic_slice(padded, (zero, *starts, zero), images.shape)


def cutout(images: Images, key: jax.Array) -> Images:
    """A box of half of each side, anywhere (partly outside too), is set to zero."""
    inside = []
    for axis, side in enumerate(images.shape[1:3]):
        size = int(side * 0.5 + 0.5)
        centre = jax.random.randint(stream(key, f'cutout{axis}'), (), 0, side + (1 - size % 2), jnp.int32)
        places = jnp.arange(side, dtype=jnp.int32)
        inside.append((places >= centre - size // 2) & (places < centre - size // 2 + size))
    hole = inside[0][None, :, None, None] & inside[1][None, None, :, None]
    return jnp.where(hole, jnp.zeros((), images.dtype), images)


def flip(images: Images, key: jax.Array) -> Images:
    """Left to right with probability 1/2."""
    return jnp.where(_uniform(key, 'flip', 0.0, 1.0) < 0.5, images[:, :, ::-1], images)


def scale(images: Images, key: jax.Array) -> Images:
    """Height and width by factors of 1/1.2 .. 1.2 each, about the centre."""
    factors = _uniform(key, 'scale', 1 / 1.2, 1.2, (2,))
    return _resampled(images, jnp.diag(factors))


def rotate(images: Images, key: jax.Array) -> Images:
    """By -15 .. 15 degrees about the centre."""
    angle = _uniform(key, 'rotate', -15.0, 15.0) * (jnp.pi / 180)
    c, s = jnp.cos(angle), jnp.sin(angle)
    return _resampled(images, jnp.stack([jnp.stack([c, s]), jnp.stack([-s, c])]))


def _resampled(images: Images, linear: jax.Array) -> Images:
    """Bilinear values at `linear @ place`, places measured from the centre in halves of a side; zeros outside."""
    sides = images.shape[1:3]
    halves = [(side - 1) / 2 for side in sides]
    lines = [(jnp.arange(n, dtype=jnp.float32) - h) / max(h, 0.5) for n, h in zip(sides, halves, strict=True)]
    grid = jnp.stack(jnp.meshgrid(*lines, indexing='ij'), axis=-1)
    moved = jnp.einsum('ij,hwj->hwi', linear, grid)
    rows, columns = (moved[..., i] * max(h, 0.5) + h for i, h in enumerate(halves))

    def sample(plane):
        return jax.scipy.ndimage.map_coordinates(plane, [rows, columns], order=1, mode='constant')

    planes = jnp.moveaxis(images, -1, 1).reshape(-1, *sides)
    values = jax.vmap(sample)(planes).reshape(images.shape[0], images.shape[-1], *sides)
    return jnp.moveaxis(values, 1, -1)


TRANSFORMS: dict[str, Callable[[Images, jax.Array], Images]] = {
    'color': color,
    'crop': crop,
    'cutout': cutout,
    'flip': flip,
    'scale': scale,
    'rotate': rotate,
}
