"""The Model contract: pure functions on plain pytrees, whatever library the network was written in."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax

from kdjax.errors import UserError

Variables = dict[str, Any]
"""`{'params': tree, 'stats': tree}`: what an optimizer trains, and what a forward pass updates.

Plain nested dicts of arrays (statistics of batches, banks ... in `stats`); either may be empty.
"""


Rules = tuple[tuple[str, tuple[str | None, ...]], ...]
"""(pattern, axes): arrays whose path the regular expression finds are split over these axes of the mesh, in order.

`(r'expand/kernel', (None, 'tensor'))`. Axes of a mesh are `data`, `fsdp` and `tensor`; None leaves an axis whole.
"""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a model or a teacher says about a batch.

    prediction: logits `[batch, classes]` for a classifier; whatever the task's objective reads otherwise.
    taps: named intermediates, e.g. `stage1` .. `stage3`, `pooled`. Under jit, what nobody reads is free.
    """

    prediction: Any
    taps: dict[str, Any] = dataclasses.field(default_factory=dict)


@runtime_checkable
class Init(Protocol):
    def __call__(self, key: jax.Array, example: Any) -> Variables: ...


@runtime_checkable
class Apply(Protocol):
    def __call__(
        self, variables: Variables, inputs: Any, *, key: jax.Array, train: bool
    ) -> tuple[Outputs, Variables]: ...


@dataclasses.dataclass(frozen=True)
class Model:
    """A network as two pure functions.

    init(key, example) -> variables; `example` is an input batch, or its `jax.ShapeDtypeStruct`s.
    apply(variables, inputs, *, key, train) -> (outputs, variables); with `train=False` the same variables.
    name: the specification a reader can rebuild it from, e.g. `resnet8x4(classes=10, norm='batch')`.
    rules: how its arrays may be split over several devices, by the end of their path in `params` or `stats`.
    under(dtype=..., remat=...) -> the same network on the same variables, with activations of that type, or with blocks
        that are computed again for the backward pass; either may be left out. None where there is one way only.
    """

    init: Init
    apply: Apply
    name: str
    rules: Rules = ()
    under: Callable[..., Model] | None = None


def under(model: Model, *, dtype: str = 'float32', remat: bool = False) -> Model:
    """The model, computed in another way; what is left at its default stays as the model has it.

    With `remat` a model that has no blocks is computed again as a whole. Raises `UserError` if it has no such dtype.
    """
    changes = ({} if dtype == 'float32' else {'dtype': dtype}) | ({'remat': True} if remat else {})
    if not changes:
        return model
    if model.under is not None:
        return model.under(**changes)
    if 'dtype' in changes:
        raise UserError(f"'{model.name}' has no version in {dtype}: leave the dtype at float32")
    return _computed_again(model)


def _computed_again(model: Model) -> Model:
    def apply(variables: Variables, inputs: Any, *, key: jax.Array, train: bool) -> tuple[Outputs, Variables]:
        return jax.checkpoint(functools.partial(model.apply, key=key, train=train))(variables, inputs)

    return dataclasses.replace(model, apply=apply)


def from_functions(init: Callable[..., Any], apply: Callable[..., Any], *, name: str) -> Model:
    """A model from `init(key, example) -> params` and `apply(params, inputs) -> prediction or Outputs`."""

    def init_variables(key, example):
        return {'params': init(key, example), 'stats': {}}

    def apply_variables(variables, inputs, *, key, train):
        del key, train
        said = apply(variables['params'], inputs)
        return (said if isinstance(said, Outputs) else Outputs(said)), variables

    return Model(init_variables, apply_variables, name)
