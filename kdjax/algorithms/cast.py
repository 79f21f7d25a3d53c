"""Who takes part in a step, and the view that they have of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import optax

from kdjax.algorithms.algorithm import PLAIN, Batch, Execution
from kdjax.algorithms.rollouts import Rollout
from kdjax.errors import UserError
from kdjax.models.model import Model, Outputs, Variables, under
from kdjax.objectives import Objective, Part
from kdjax.streams import stream
from kdjax.teachers.teacher import Frozen, Teacher
from kdjax.view import View

ROLLOUT = 'rollout'
"""The name of its memory in the state, beside those of the teachers."""


@dataclasses.dataclass(frozen=True)
class Player:
    """Someone who learns: a model, what it minimises, and how it moves.

    reads: addresses of the model's inputs; several are given as a tuple. Default: the images of the batch.
    start: name in `frozen` of the variables to start from; default is a fresh initialisation.
    held: name in `frozen` of weights that the model reads as `variables['held']` and nobody trains (those under
        adapters): they are in no state, so in no checkpoint and no optimizer.
    """

    model: Model
    objective: Objective
    optimizer: optax.GradientTransformation
    reads: tuple[str, ...] = ('batch.image',)
    start: str | None = None
    held: str | None = None


Prepare = Callable[..., dict[str, Any]]
"""`prepare(batch, *, key, train) -> batch`: pure preprocessing and augmentation, once for all players and teachers."""


@dataclasses.dataclass(frozen=True)
class Cast:
    """Everything a step needs to know of who takes part."""

    players: Mapping[str, Player]
    teachers: Mapping[str, Teacher]
    prepare: Prepare
    execution: Execution = PLAIN
    rollout: Rollout | None = None
    evaluated_on: Rollout | None = None

    @property
    def parts(self) -> dict[str, Part]:
        return {part.name: part for player in self.players.values() for part in player.objective.parts}

    def group(self, player: str) -> list[str]:
        """The nodes that a player trains: itself and the learned parts of its objective."""
        return [player, *(part.name for part in self.players[player].objective.parts)]


def check_names(cast: Cast) -> None:
    """Raises `UserError` where a name stands for two, or could not be an address."""
    names = [*cast.players, *cast.teachers, *(n for p in cast.players for n in cast.group(p)[1:])]
    names += [] if cast.rollout is None else [ROLLOUT]
    for name in names:
        if names.count(name) > 1 or name == 'batch' or '.' in name:
            raise UserError(
                f"'{name}' cannot name a player, teacher or part here: names are unique, without dots, and not 'batch'"
            )


def _gather(view: View, reads: tuple[str, ...]) -> Any:
    return view.inputs(reads if len(reads) > 1 else reads[0])


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def always(value: Any) -> Callable[[View], Any]:
    return lambda view: value


def _build(cast: Cast, part: Part, view: View) -> Model:
    return under(part.build(*(_shapes(view[a]) for a in part.reads + part.like)), remat=cast.execution.remat)


def view_of(
    cast: Cast,
    variables: Mapping[str, Variables],
    memory: Mapping[str, Any],
    frozen: Frozen,
    batch: Batch,
    *,
    step: jax.typing.ArrayLike,
    key: jax.Array,
    train: bool,
    updates: dict[str, Variables],
) -> View:
    """The view of a step; `updates` collects the variables that forward passes changed."""

    def learner(name: str, model_of: Callable[[View], Model], reads: tuple[str, ...]):
        def node(view: View) -> Outputs:
            draw = stream(key, f'{name}/forward', step)
            mine = with_held(cast, name, variables, frozen)
            outputs, after = model_of(view).apply(mine, _gather(view, reads), key=draw, train=train)
            updates[name] = {kind: after[kind] for kind in variables[name]}
            return outputs

        return node

    def source(name: str, teacher: Teacher):
        return lambda view: teacher.apply(memory[name], frozen, view, key=stream(key, f'{name}/teacher', step))

    nodes = {n: learner(n, always(p.model), p.reads) for n, p in cast.players.items()}
    nodes |= {n: source(n, t) for n, t in cast.teachers.items()}
    nodes |= {n: learner(n, partial(_build, cast, part), part.reads) for n, part in cast.parts.items()}
    return View(nodes, batch, step)


def with_held(cast: Cast, name: str, variables: Mapping[str, Variables], frozen: Frozen) -> Variables:
    held = cast.players[name].held if name in cast.players else None
    return variables[name] if held is None else variables[name] | {'held': frozen[held]}
