"""The Algorithm contract: three pure functions on one pytree. The loop does everything else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax

from kdjax.errors import UserError, unknown
from kdjax.models.model import Rules

State = dict[str, Any]
Batch = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a step is computed, which is no business of an experiment.

    accumulate: gradients of so many equal parts of a batch are added before the update; each part is in memory alone.
        Terms stay sums over the whole batch by counts over the whole batch, whatever the masks. What couples the
        examples of a batch (batch statistics, losses between examples) sees one part at a time.
    remat: the backward pass keeps what goes into each block of a network and computes the block again.
    dtype: of activations; parameters, statistics, losses and updates stay float32.
    teacher_dtype: of the activations of teachers.
    """

    accumulate: int = 1
    remat: bool = False
    dtype: str = 'float32'
    teacher_dtype: str = 'float32'

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise UserError(f'accumulate={self.accumulate}: at least 1, which is the whole batch at once')
        for dtype in (self.dtype, self.teacher_dtype):
            if dtype not in ('float32', 'bfloat16'):
                raise unknown('dtype', dtype, ('float32', 'bfloat16'))


PLAIN = Execution()
"""A whole batch at once, in float32."""


@runtime_checkable
class Init(Protocol):
    def __call__(self, key: jax.Array, frozen: Mapping[str, Any], example: Batch) -> State: ...


@runtime_checkable
class Step(Protocol):
    def __call__(
        self, state: State, frozen: Mapping[str, Any], batch: Batch, key: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]: ...


@runtime_checkable
class Evaluate(Protocol):
    def __call__(
        self, state: State, frozen: Mapping[str, Any], batch: Batch, key: jax.Array
    ) -> dict[str, jax.Array]: ...


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A training procedure.

    init(key, frozen, example) -> state: everything that is trained, averaged, remembered or counted, in one pytree.
    step(state, frozen, batch, key) -> (state, metrics): one update; metrics are scalars.
    evaluate(state, frozen, batch, key) -> arrays with a leading batch axis, e.g. logits; metrics are made of them on
    the host.

    `frozen` holds what a run reads and never trains (teacher weights, caches): an argument, so that one compiled
    program serves every teacher of a shape; apart from the state, so that it is in no checkpoint and no gradient.
    `key` is the run's key: streams fold in their name and `state['step']`.

    rules, frozen_rules: how arrays of the state and of `frozen` may be split over devices, by their paths there.
    under(execution) -> the same algorithm, executed in another way; None where there is one way only.
    """

    init: Init
    step: Step
    evaluate: Evaluate
    rules: Rules = ()
    frozen_rules: Rules = ()
    under: Callable[[Execution], Algorithm] | None = None


def executed(algorithm: Algorithm, execution: Execution) -> Algorithm:
    """The algorithm under these options. Raises `UserError` if it has none and they are not the default."""
    if execution == PLAIN:
        return algorithm
    if algorithm.under is None:
        raise UserError(f'{execution} cannot be applied here: this algorithm runs in one way only')
    return algorithm.under(execution)
