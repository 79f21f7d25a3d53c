"""The Teacher contract: anything that turns a batch into Outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from kdjax.models.model import Outputs
from kdjax.view import View

Frozen = Mapping[str, Any]
"""What a run reads and never trains: teacher weights, caches. Given to every step, in no checkpoint, in no gradient."""


def _nothing(frozen: Frozen, example: Any, variables: Any) -> Any:
    del frozen, example, variables
    return {}


def _unchanged(memory: Any, view: View, variables: Any) -> Any:
    del view, variables
    return memory


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A source of targets.

    apply(memory, frozen, view, *, key) -> Outputs, from the view's batch.
    init(frozen, example, variables) -> memory, and update(memory, view, variables) -> memory after each step: only
    for teachers
    that remember (an average of the student, its past predictions). Memory is part of the train state, so it is saved.
    forwards: teacher forward passes per example, for the cost table.
    """

    apply: Callable[..., Outputs]
    init: Callable[..., Any] = _nothing
    update: Callable[..., Any] = _unchanged
    forwards: int = 0


def quiet(key: jax.Array | None) -> jax.Array:
    """A key for models that must be given one and, in evaluation mode, draw nothing."""
    return jax.random.key(0) if key is None else key
