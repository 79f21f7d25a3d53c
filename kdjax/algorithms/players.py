"""The supervised family: players that each minimise an objective, alone, together or against one another.

One player and a teacher is distillation. Two players whose objectives read each other is mutual learning. A student
and a discriminator is a game. All players move at once, each from the variables before the step, and
differentiate their own variables only: another player's output is a constant to its weights, not to its inputs,
so a student receives gradients through a discriminator but never trains it.
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
from kdjax.algorithms.cast import ROLLOUT, Cast, Player, Prepare, always, check_names, view_of, with_held
from kdjax.algorithms.gradients import Found, gradient
from kdjax.algorithms.rollouts import Rollout, executed_rollout, unrolled
from kdjax.errors import UserError, unknown
from kdjax.models.model import Model, Outputs, Rules, Variables, under
from kdjax.objectives import Objective, total
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
    )
    check_names(cast)
    if evaluates is None:
        evaluates = tuple(n for n, p in players.items() if all(a.startswith('batch.') for a in p.reads))
    return Algorithm(
        partial(_init, cast), partial(_step, cast), partial(_evaluate, cast, evaluates),
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
            evaluated_on=evaluated_on, execution=execution,
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


def _rolled_out(
    cast: Cast, rollout: Rollout, memory: Any, state: State, frozen: Frozen, batch: Batch, key: jax.Array
) -> tuple[Batch, Any]:
    """The batch as it is learned from, and what the rollout remembers."""

    def lookup(name: str) -> Variables:
        if name in cast.players:
            return with_held(cast, name, state['variables'], frozen)
        if name not in frozen:
            raise unknown('player or frozen input that writes', name, [*cast.players, *frozen])
        return frozen[name]

    return rollout.apply(memory, batch, lookup, step=state['step'], key=key)


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


def _step(cast: Cast, state: State, frozen: Frozen, batch: Batch, key: jax.Array):
    step = state['step']
    batch = cast.prepare(batch, key=stream(key, 'prepare', step), train=True)
    rolled = {}
    if cast.rollout is not None:
        draw, kept = stream(key, 'rollout', step), state['memory'][ROLLOUT]
        batch, rolled[ROLLOUT] = _rolled_out(cast, cast.rollout, kept, state, frozen, batch, draw)
    variables, optimizer = dict(state['variables']), {}
    metrics: dict[str, jax.Array] = {}
    said: dict[str, Outputs] = {}
    for name, player in cast.players.items():
        found = _gradient(cast, name, state, frozen, batch, key)
        params, optimizer[name] = _moved(player, found.gradient, state['optimizer'][name], _params(cast, name, state))
        for node in cast.group(name):
            variables[node] = {'params': params[node], 'stats': found.stats[node]}
        measured = {n: r.mean for n, r in found.reduced.items()}
        measured |= {'loss': total(found.reduced), 'gradient_norm': optax.tree.norm(found.gradient)}
        metrics |= {f'{name}/{m}': value for m, value in measured.items()}
        said = found.outputs | said
    memory = rolled | _remember(cast, state, said, batch, variables)
    return {'step': step + 1, 'variables': variables, 'optimizer': optimizer, 'memory': memory}, metrics


def _params(cast: Cast, name: str, state: State) -> dict[str, Any]:
    return {n: state['variables'][n]['params'] for n in cast.group(name)}


def _gradient(cast: Cast, name: str, state: State, frozen: Frozen, batch: Batch, key: jax.Array) -> Found:
    """Of one player's objective in what it trains, from the variables before the step."""
    before = state['variables']

    def evaluate(params, stats, batch, key):
        updates: dict[str, Variables] = {}
        mine = {n: {'params': params[n], 'stats': stats[n]} for n in params}
        view = view_of(
            cast, {**before, **mine}, state['memory'], frozen, batch,
            step=state['step'], key=key, train=True, updates=updates,
        )  # fmt: skip
        reduced = cast.players[name].objective(view)
        after = {n: updates[n]['stats'] if n in updates else stats[n] for n in params}
        return reduced, after, view.evaluated()

    stats = {n: before[n]['stats'] for n in cast.group(name)}
    params = _params(cast, name, state)
    return gradient(evaluate, params, stats, batch, key, parts=cast.execution.accumulate)


def _moved(player: Player, gradient: Any, optimizer: Any, params: Any) -> tuple[Any, Any]:
    """Parameters and optimizer state after an update."""
    with jax.numpy_dtype_promotion('standard'):  # optax raises floats to the power of integer counts
        change, optimizer = player.optimizer.update(gradient, optimizer, params)
    return optax.apply_updates(params, change), optimizer


def _remember(cast: Cast, state: State, said: Mapping[str, Outputs], batch: Batch, variables):
    view = View({n: always(outputs) for n, outputs in said.items()}, batch, state['step'])
    return {n: t.update(state['memory'][n], view, variables) for n, t in cast.teachers.items()}


def _evaluate(cast: Cast, evaluates: Evaluates, state: State, frozen: Frozen, batch: Batch, key: jax.Array):
    first = jnp.ravel(batch.get('index', 0))[0]
    batch = cast.prepare(batch, key=key, train=False)
    if cast.evaluated_on is not None:
        draw = jax.random.fold_in(stream(key, 'evaluate/rollout', state['step']), first)
        begun = cast.evaluated_on.init(unrolled(batch))
        batch, _ = _rolled_out(cast, cast.evaluated_on, begun, state, frozen, batch, draw)
    view = view_of(
        cast, state['variables'], state['memory'], frozen, batch,
        step=state['step'], key=key, train=False, updates={},
    )  # fmt: skip
    return evaluates(view) if callable(evaluates) else {address: view[address] for address in evaluates}
