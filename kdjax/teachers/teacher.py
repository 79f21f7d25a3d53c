"""The Teacher contract: anything that turns a batch into Outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from kdjax.models.model import Model, Outputs, Rules
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
    function(memory, frozen, inputs, *, key) -> Outputs of any inputs, the address `'name()'`; None where it answers
        about the batch alone.
    rules: how its frozen arrays may be split over devices, by their paths in `frozen`.
    memory_rules: how its memory may be split, by the end of their paths in it.
    in_dtype(dtype) -> the same teacher with activations of that type; None where it has no activations.
    """

    apply: Callable[..., Outputs]
    init: Callable[..., Any] = _nothing
    update: Callable[..., Any] = _unchanged
    forwards: int = 0
    function: Callable[..., Outputs] | None = None
    rules: Rules = ()
    memory_rules: Rules = ()
    in_dtype: Callable[[str], Teacher] | None = None


def taught_in(teacher: Teacher, dtype: str) -> Teacher:
    """The teacher with activations of that type; itself where there are none."""
    return teacher if dtype == 'float32' or teacher.in_dtype is None else teacher.in_dtype(dtype)


def frozen_rules(name: str, model: Model) -> Rules:
    """A model's rules over the paths of `frozen`, where its variables are called `name`."""
    return tuple((rf'^{name}/(params|stats)/(.*/)?{pattern}$', axes) for pattern, axes in model.rules)
