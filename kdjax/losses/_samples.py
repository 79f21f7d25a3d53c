"""Samples of any shape and their noise levels: shapes checked, at least in float32, blank where masked."""

import jax.numpy as jnp

from . import _checks, _rows


def samples(where, **arrays):
    """The arrays `[batch, ...]`, all of one shape, zeros in masked examples. Raises ValueError on another shape."""
    (name, first), *others = arrays.items()
    if first.ndim < 2:
        raise ValueError(f'{name} has shape {first.shape}: samples need a batch axis and at least one of features')
    for other, array in others:
        if array.shape != first.shape:
            raise ValueError(f'{other} has shape {array.shape}, {name} {first.shape}: pair the samples one to one')
    _checks.mask_shape(where, first.shape[:1])
    return tuple(_rows.blanked(a, where) for a in _rows.widened(*arrays.values()))


def levels(like, where, **arrays):
    """One number for each example, `[batch, 1, ...]` to go with `like`; 1 in masked examples.

    Raises ValueError on a shape other than `[batch]`.
    """
    for name, array in arrays.items():
        if array.shape != like.shape[:1]:
            raise ValueError(f'{name} has shape {array.shape}, the batch {like.shape[:1]}: give one for each example')
    if where is not None:
        arrays = {n: jnp.where(where, a, jnp.ones_like(a)) for n, a in arrays.items()}
    return tuple(_rows.expanded(a.astype(like.dtype), like.ndim) for a in arrays.values())


def weights(like, where, weight):
    """A weight for each example, `[batch]`; ones where none is given."""
    if weight is None:
        return jnp.ones(like.shape[:1], like.dtype)
    return levels(like, where, weight=weight)[0].reshape(-1)


def sums(x):
    """Over everything but the batch."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def means(x):
    """Over everything but the batch."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))


def along(values, like):
    """`[batch]` -> `[batch, 1, ...]`."""
    return _rows.expanded(values, like.ndim)
