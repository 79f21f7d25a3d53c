"""Precision, axes and masks, so that every loss below is only its maths on rows."""

import jax.numpy as jnp

from . import _checks


def widened(*arrays):
    """The arrays in float32, or all of them in float64 when one is."""
    arrays = tuple(jnp.asarray(x) for x in arrays)
    dtype = jnp.float64 if any(x.dtype == jnp.float64 for x in arrays) else jnp.float32
    return tuple(x.astype(dtype) for x in arrays)


def expanded(mask, ndim: int):
    """The mask with trailing axes of length one, up to `ndim` axes."""
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim))


def blanked(x, where):
    """Zeros in masked examples: what stands there reaches no value and no gradient, not even as NaN."""
    return x if where is None else jnp.where(expanded(where, x.ndim), x, jnp.zeros_like(x))


def kept(values, where):
    """The values of the examples that count, and 0 for the others."""
    return values if where is None else jnp.where(where, values, jnp.zeros_like(values))


def paired(where, **arrays):
    """The arrays at least in float32, blanked under the mask; a ValueError unless they have one shape, the mask's."""
    (name, first), *others = arrays.items()
    for other, array in others:
        if array.shape != first.shape:
            raise ValueError(f'{other} has shape {array.shape}, {name} {first.shape}: pair the values one to one')
    _checks.mask_shape(where, first.shape)
    return tuple(blanked(a, where) for a in widened(*arrays.values()))


def logit_rows(student, teacher, axis: int, where):
    """Both logits with classes last, at least in float32, blanked under the mask."""
    _checks.same_classes(student, teacher, axis)
    student, teacher = (jnp.moveaxis(x, axis, -1) for x in widened(student, teacher))
    _checks.mask_shape(where, student.shape[:-1])
    return blanked(student, where), blanked(teacher, where)


def label_rows(labels, where, examples: tuple[int, ...]):
    """Class ids, 0 under the mask (where padding ids such as -1 may stand)."""
    labels = jnp.asarray(labels)
    _checks.label_shape(labels, examples)
    return blanked(labels, where)


def feature_rows(student, teacher, where):
    """Both features as matrices [batch, width], at least in float32, and the mask as floats [batch]."""
    _checks.same_batch(student, teacher)
    _checks.mask_shape(where, student.shape[:1])
    student, teacher = widened(student, teacher)
    where = jnp.ones(student.shape[:1], bool) if where is None else where
    student, teacher = (blanked(x, where).reshape(x.shape[0], -1) for x in (student, teacher))
    return student, teacher, where.astype(student.dtype)


def count(valid):
    """How many rows count, and 1 where none does (every contribution is 0 then)."""
    return jnp.maximum(valid.sum(), 1.0)
