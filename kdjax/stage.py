"""Stages: named steps from artifacts to an artifact. An arm is a small graph of them; most have one or two.

A stage is a description: nothing runs here. `kdjax.run` executes it, once per content (code, config, data, inputs,
seed),
so that what two arms or two experiments share is computed once and an interrupted verification goes on where it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from kdjax.algorithms.algorithm import Algorithm


@dataclasses.dataclass(frozen=True)
class Artifact:
    """What a stage leaves: nested dicts of arrays for later stages to read, and facts (JSON) for people."""

    arrays: dict[str, Any]
    info: dict[str, Any]
    digest: str = ''


@dataclasses.dataclass(frozen=True)
class Output:
    """A reference to a subtree of a stage's arrays: `stage['variables']['student']`."""

    stage: Stage
    path: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Output:
        return Output(self.stage, (*self.path, name))

    def of(self, arrays: Any) -> Any:
        """The subtree itself, from the stage's arrays."""
        for name in self.path:
            arrays = arrays[name]
        return arrays


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """What every stage declares.

    name: unique among the stages of an experiment; part of the identity.
    module: the module whose source, with all that it imports from kdjax, is the stage's code identity.
    config: JSON; everything besides code, data and inputs that the result depends on.
    inputs: what it reads of other stages.
    shared: one result for all seeds of a verification (a teacher), or one per seed (a student).
    """

    name: str
    module: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Output] = dataclasses.field(default_factory=dict)
    shared: bool = False

    def __getitem__(self, name: str) -> Output:
        return Output(self, (name,))

    @property
    def reads(self) -> tuple[Output, ...]:
        """Every output of other stages that this one needs."""
        return tuple(self.inputs.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Stage):
    """Run an algorithm over a data set. Leaves `variables` (by player) and `predictions` (by split).

    data: the `kdjax.data.Dataset`; `batch` examples a step for `steps` steps; `evaluate_every` steps on the
    validation split.
    measure: `(said, reference) -> {metric: float}` on one split, on the host; `said` is what the algorithm evaluates,
        with the labels of the split as `label` if it has some.
    reference: an output of another stage that `measure` compares with, by split (the teacher's predictions).
    facts: numbers that other stages found, or one for each split, recorded among the final metrics.
    cost: `() -> {name: number}`: parameters, FLOPs, teacher queries, cache bytes of the whole run.
    """

    algorithm: Algorithm
    data: Any
    batch: int
    steps: int
    evaluate_every: int
    measure: Callable[..., dict[str, float]]
    reference: Output | None = None
    facts: Mapping[str, Output] = dataclasses.field(default_factory=dict)
    cost: Callable[[], dict[str, float]] = dict

    @property
    def reads(self) -> tuple[Output, ...]:
        compared = () if self.reference is None else (self.reference,)
        return (*self.inputs.values(), *compared, *self.facts.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compute(Stage):
    """A function of its inputs: fill a cache, score candidates, prune a network.

    call: `(inputs, *, key) -> arrays` or `(arrays, info)`; `inputs` holds the subtree behind each entry of `inputs`.
    data: the data set it reads, if any, for its identity.
    shapes: `inputs -> arrays` on `jax.ShapeDtypeStruct`s, where `call` is host code that JAX cannot trace; with it
        an experiment is checked from end to end without running anything.
    """

    call: Callable[..., Any]
    data: Any = None
    shapes: Callable[..., Any] | None = None


def graph(*last: Stage) -> dict[str, list[Stage]]:
    """Every distinct stage that leads to `last`, inputs before users, by name; a name with two entries is ambiguous."""
    ordered: list[Stage] = []

    def visit(stage: Stage) -> None:
        if any(stage is seen for seen in ordered):
            return
        for output in stage.reads:
            visit(output.stage)
        ordered.append(stage)

    for stage in last:
        visit(stage)
    by_name: dict[str, list[Stage]] = {}
    for stage in ordered:
        by_name.setdefault(stage.name, []).append(stage)
    return by_name
