"""Arrays that lie on the devices alike: what XLA chooses for one, it chooses for the other."""

from __future__ import annotations

import itertools
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jaxlib.mlir.dialects import sdy

_groups = itertools.count(1 << 20)
"""Apart from those that JAX itself may number."""


def laid_like(array: jax.Array, other: jax.Array) -> jax.Array:
    """`array`, split over devices as `other` of the same shape is. Of use outside of differentiation only."""
    if array.shape != other.shape:
        raise ValueError(f'arrays of shapes {array.shape} and {other.shape} cannot lie alike')
    return _alike.bind(array, other)


_alike = Primitive('laid_like')
_alike.def_impl(lambda array, other: array)
_alike.def_abstract_eval(lambda array, other: array)


def _lower(ctx: mlir.LoweringRuleContext, array: Any, other: Any) -> list[Any]:
    group = next(_groups)
    sdy.sharding_group(array, group)
    sdy.sharding_group(other, group)
    return [array]


def _batch(arguments: tuple[jax.Array, jax.Array], axes: tuple[int | None, int | None]) -> tuple[jax.Array, int]:
    size = next(x.shape[axis] for x, axis in zip(arguments, axes, strict=True) if axis is not None)
    array, other = (batching.bdim_at_front(x, axis, size) for x, axis in zip(arguments, axes, strict=True))
    return _alike.bind(array, other), 0


mlir.register_lowering(_alike, _lower)
batching.primitive_batchers[_alike] = _batch
