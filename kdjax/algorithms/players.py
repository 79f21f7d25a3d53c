"""The supervised family: players that each minimise an objective, alone, together or against one another.

One player and a teacher is distillation. Two players whose objectives read each other is mutual learning. A student
and a discriminator is a game, and so is a generator with the score network that follows it:

    play({
        'fake': Player(score, term(denoising, 'generator', 'fake()'), optimizer, moves=5, ...),
        'generator': Player(network, term(matching, 'generator', 'teacher()', 'fake()'), optimizer, ...),
    }, teachers={'teacher': live(score)}, turns='in_order')

All players move at once, each from the variables before the step, unless they take turns. They differentiate their
own variables only: another player's output is a constant to its weights, not to its inputs, so a student receives
gradients through a discriminator, read or called as a function, but never trains it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax.algorithms.algorithm import PLAIN, Algorithm, Batch, Execution, State
from kdjax.algorithms.cast import ROLLOUT, Cast, Player, Prepare, check_names, check_turns, view_of
from kdjax.algorithms.rollouts import Rollout, executed_rollout, unrolled
from kdjax.algorithms.turns import rolled_out, step
from kdjax.errors import UserError
from kdjax.models.model import Model, Rules, Variables, under
from kdjax.objectives import Objective
from kdjax.streams import stream
from kdjax.teachers.teacher import Frozen, Teacher, taught_in
from kdjax.view import View

Evaluates = tuple[str, ...] | Callable[[View], dict[str, jax.Array]]


def as_is(batch: Batch, *, key: jax.Array, train: bool) -> dict[str, Any]:
    """No preprocessing."""
    del key, train
    return dict(batch)


def play(
    players: Mapping[str, Player],
    *,
    teachers: Mapping[str, Teacher] | None = None,
    prepare: Prepare = as_is,
    evaluates: Evaluates | None = None,
    rollout: Rollout | None = None,
    evaluated_on: Rollout | None = None,
    turns: str = 'together',
    execution: Execution = PLAIN,
) -> Algorithm:
    """An algorithm of any number of players.

    Args:
        players: by name; a name is also the address of the player's prediction.
        teachers: by name, likewise.
        prepare: preprocessing and augmentation of the batch.
        evaluates: what `evaluate` returns: the predictions at these addresses, or what a function makes of the view,
            arrays `[batch, ...]` by name; default is every player that reads the batch.
        rollout: rewrites the batch, with the players' variables before the step, before anybody learns from it.
        evaluated_on: the same for `evaluate`, which otherwise reads the data as it is.
        turns: 'together': everybody moves from the variables before the step; 'in_order': each from what the players
            named before it have left. Teachers that remember are brought up to date after all, once a step.
        execution: how the step is computed; usually given later, by `Algorithm.under`.
    """
    teachers = teachers or {}

    def dtype_of(name: str) -> str:
        return execution.dtype if name in players else execution.teacher_dtype

    cast = Cast(
        {n: dataclasses.replace(p, model=_under(p.model, execution)) for n, p in players.items()},
        {n: taught_in(t, execution.teacher_dtype) for n, t in teachers.items()},
        prepare,
        execution,
        executed_rollout(rollout, dtype_of),
        executed_rollout(evaluated_on, dtype_of),
        turns,
    )
    check_names(cast)
    check_turns(cast)
    if evaluates is None:
        evaluates = tuple(n for n, p in players.items() if all(a.startswith('batch.') for a in p.reads))
    return Algorithm(
        partial(_init, cast), partial(step, cast), partial(_evaluate, cast, evaluates),
        rules=(
            *(rule for name, player in players.items() for rule in _rules(name, player.model.rules)),
            *(rule for name, teacher in teachers.items() for rule in _rules(f'memory/{name}', teacher.memory_rules)),
        ),
        frozen_rules=(
            *(rule for teacher in teachers.values() for rule in teacher.rules),
            *(rule for player in players.values() for rule in _held_rules(player)),
        ),
        under=lambda execution: play(
            players, teachers=teachers, prepare=prepare, evaluates=evaluates, rollout=rollout,
            evaluated_on=evaluated_on, turns=turns, execution=execution,
        ),
    )  # fmt: skip


def _under(model: Model, execution: Execution) -> Model:
    return under(model, dtype=execution.dtype, remat=execution.remat)


def _rules(name: str, rules: Rules) -> Rules:
    """Rules over the paths of a state: for the variables called `name`, and for what an optimizer keeps of them."""
    return tuple((rf'(^|/){name}/(.*/)?{pattern}$', axes) for pattern, axes in rules)


def _held_rules(player: Player) -> Rules:
    if player.held is None:
        return ()
    return tuple((rf'^{player.held}/(.*/)?{pattern}$', axes) for pattern, axes in player.model.rules)


def supervised(
    model: Model,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    teachers: Mapping[str, Teacher] | None = None,
    prepare: Prepare = as_is,
    start: str | None = None,
    held: str | None = None,
) -> Algorithm:
    """One player, called `student`."""
    player = Player(model, objective, optimizer, start=start, held=held)
    return play({'student': player}, teachers=teachers, prepare=prepare)


def _trained(name: str, player: Player, variables: Variables) -> Variables:
    """The variables of a player that are in the state."""
    if 'held' in variables and player.held is None:
        raise UserError(
            f"player '{name}' holds weights that are not trained: put them into `frozen` and name them with held="
        )
    return {kind: variables[kind] for kind in ('params', 'stats')}


def _init(cast: Cast, key: jax.Array, frozen: Frozen, example: Batch) -> State:
    batch = cast.prepare(example, key=key, train=True)
    variables: dict[str, Variables] = {}
    memory: dict[str, Any] = {}
    if cast.rollout is not None:
        batch = unrolled(batch)
        memory[ROLLOUT] = cast.rollout.init(batch)

    def shapes_of(reads: tuple[str, ...]) -> tuple[Any, ...]:
        def read(variables, memory, frozen, batch):
            view = view_of(cast, variables, memory, frozen, batch, step=0, key=key, train=False, updates={})
            return tuple(view[a] for a in reads)

        return jax.eval_shape(read, variables, memory, frozen, batch)

    def fresh(name: str, model: Model, inputs: tuple[Any, ...]) -> Variables:
        return model.init(stream(key, f'{name}/init'), inputs[0] if len(inputs) == 1 else inputs)

    derived = {}
    for name, player in cast.players.items():
        if player.start is not None:
            variables[name] = jax.tree.map(jnp.asarray, _trained(name, player, frozen[player.start]))
        elif all(a.startswith('batch.') for a in player.reads):
            variables[name] = _trained(name, player, fresh(name, player.model, shapes_of(player.reads)))
        else:
            derived[name] = player
    for name, teacher in cast.teachers.items():
        memory[name] = teacher.init(frozen, batch, variables)
    for name, part in cast.parts.items():
        shapes = shapes_of(part.reads + part.like)
        variables[name] = fresh(name, part.build(*shapes), shapes[: len(part.reads)])
    for name, player in derived.items():
        variables[name] = _trained(name, player, fresh(name, player.model, shapes_of(player.reads)))
    optimizer = {
        name: player.optimizer.init({n: variables[n]['params'] for n in cast.group(name)})
        for name, player in cast.players.items()
    }
    return {'step': jnp.zeros((), jnp.int32), 'variables': variables, 'optimizer': optimizer, 'memory': memory}


def _evaluate(cast: Cast, evaluates: Evaluates, state: State, frozen: Frozen, batch: Batch, key: jax.Array):
    first = jnp.ravel(batch.get('index', 0))[0]
    batch = cast.prepare(batch, key=key, train=False)
    if cast.evaluated_on is not None:
        draw = jax.random.fold_in(stream(key, 'evaluate/rollout', state['step']), first)
        begun = cast.evaluated_on.init(unrolled(batch))
        batch, _ = rolled_out(cast, cast.evaluated_on, begun, state, frozen, batch, draw)
    view = view_of(
        cast, state['variables'], state['memory'], frozen, batch,
        step=state['step'], key=key, train=False, updates={}, who='evaluate',
    )  # fmt: skip
    return evaluates(view) if callable(evaluates) else {address: view[address] for address in evaluates}
