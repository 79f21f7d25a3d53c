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
from kdjax.errors import UserError, unknown
from kdjax.models.model import Model, Outputs, Variables, under
from kdjax.objectives import Objective, Part
from kdjax.streams import stream
from kdjax.teachers.teacher import Frozen, Teacher
from kdjax.view import Function, View

TURNS = ('together', 'in_order')
"""Does everybody move from the variables before the step, or each from what those before it have left?"""

ROLLOUT = 'rollout'
"""The name of its memory in the state, beside those of the teachers."""


@dataclasses.dataclass(frozen=True)
class Player:
    """Someone who learns: a model, what it minimises, and how it moves.

    reads: addresses of the model's inputs; several are given as a tuple. Default: the images of the batch.
    start: name in `frozen` of the variables to start from; default is a fresh initialisation.
    moves: updates in a step, one after the other, each with a draw of `prepare` and of every stream of its own; the
        others stand still meanwhile. Metrics are means over them.
    calls: forward passes per example and move that the objective spends on networks it calls as functions, by name, for
        the cost table. A gradient in the inputs counts one more, a gradient in the parameters two more.
    held: name in `frozen` of weights that the model reads as `variables['held']` and nobody trains (those under
        adapters): they are in no state, so in no checkpoint and no optimizer.
    """

    model: Model
    objective: Objective
    optimizer: optax.GradientTransformation
    reads: tuple[str, ...] = ('batch.image',)
    start: str | None = None
    held: str | None = None
    moves: int = 1
    calls: Mapping[str, float | int] = dataclasses.field(default_factory=dict)


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
    turns: str = 'together'

    @property
    def parts(self) -> dict[str, Part]:
        return {part.name: part for player in self.players.values() for part in player.objective.parts}

    def group(self, player: str) -> list[str]:
        """The nodes that a player trains: itself and the learned parts of its objective."""
        return [player, *(part.name for part in self.players[player].objective.parts)]


def check_turns(cast: Cast) -> None:
    """Raises `UserError` where moves or turns cannot be taken as they are said."""
    if cast.turns not in TURNS:
        raise unknown('turns', cast.turns, TURNS)
    for name, player in cast.players.items():
        if player.moves < 1:
            raise UserError(f"player '{name}' has moves={player.moves}: at least 1; who stands still is a teacher")
        if player.moves > 1 and cast.rollout is not None:
            raise UserError(
                f"player '{name}' has moves={player.moves} and the batch is rolled out, once a step: leave moves at 1"
            )


def check_names(cast: Cast) -> None:
    """Raises `UserError` where a name stands for two, or could not be an address."""
    names = [*cast.players, *cast.teachers, *(n for p in cast.players for n in cast.group(p)[1:])]
    names += [] if cast.rollout is None else [ROLLOUT]
    for name in names:
        if names.count(name) > 1 or name == 'batch' or '.' in name or '(' in name:
            raise UserError(
                f"'{name}' cannot name a player, teacher or part here: names are unique, without dots or brackets, "
                "and not 'batch'"
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
    who: str = 'nobody',
) -> View:
    """The view that `who` has of a step; `updates` collects the variables that forward passes changed."""

    def learner(name: str, model_of: Callable[[View], Model], reads: tuple[str, ...]):
        def node(view: View) -> Outputs:
            draw = stream(key, f'{name}/forward', step)
            mine = with_held(cast, name, variables, frozen)
            outputs, after = model_of(view).apply(mine, _gather(view, reads), key=draw, train=train)
            updates[name] = {kind: after[kind] for kind in variables[name]}
            return outputs

        return node

    def called(name: str, model_of: Callable[[View], Model]):
        def network(view: View) -> Function:
            model, mine = model_of(view), with_held(cast, name, variables, frozen)
            usual = stream(key, f'{name}/function', step)

            def function(inputs: Any, key: jax.Array | None = None) -> Outputs:
                return model.apply(mine, inputs, key=usual if key is None else key, train=train)[0]

            if train and jax.tree.leaves(variables[name]['stats']):
                raise UserError(
                    f"'{name}()' has statistics that a forward pass moves, and calls leave none behind: read '{name}', "
                    'or take a network that keeps no statistics of batches'
                )
            return function

        return network

    def source(name: str, teacher: Teacher):
        return lambda view: teacher.apply(memory[name], frozen, view, key=stream(key, f'{name}/teacher', step))

    def asked(name: str, answer: Callable[..., Outputs]):
        def function(inputs: Any, key: jax.Array) -> Outputs:
            return answer(memory[name], frozen, inputs, key=key)

        usual = stream(key, f'{name}/teacher', step)
        return lambda view: lambda inputs, key=None: function(inputs, usual if key is None else key)

    networks: dict[str, Callable[[View], Model]] = {n: always(p.model) for n, p in cast.players.items()}
    networks |= {n: partial(_build, cast, part) for n, part in cast.parts.items()}
    reads = {n: p.reads for n, p in cast.players.items()} | {n: part.reads for n, part in cast.parts.items()}
    nodes = {n: learner(n, network, reads[n]) for n, network in networks.items()}
    nodes |= {n: source(n, t) for n, t in cast.teachers.items()}
    functions = {n: called(n, network) for n, network in networks.items()}
    functions |= {n: asked(n, t.function) for n, t in cast.teachers.items() if t.function is not None}
    return View(nodes, batch, step, functions=functions, key=stream(key, f'{who}/objective', step))


def with_held(cast: Cast, name: str, variables: Mapping[str, Variables], frozen: Frozen) -> Variables:
    held = cast.players[name].held if name in cast.players else None
    return variables[name] if held is None else variables[name] | {'held': frozen[held]}
