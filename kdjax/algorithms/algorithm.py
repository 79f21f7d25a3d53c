"""The Algorithm contract: three pure functions on one pytree. The loop does everything else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax

State = dict[str, Any]
Batch = Mapping[str, Any]


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
    """

    init: Init
    step: Step
    evaluate: Evaluate
