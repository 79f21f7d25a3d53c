"""One step of a game: who moves from which variables, how often, and what is remembered of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax.algorithms.algorithm import Batch, State
from kdjax.algorithms.cast import ROLLOUT, Cast, Player, always, view_of, with_held
from kdjax.algorithms.gradients import Found, gradient
from kdjax.algorithms.rollouts import Rollout
from kdjax.errors import unknown
from kdjax.models.model import Outputs, Variables
from kdjax.objectives import total
from kdjax.streams import stream
from kdjax.teachers.teacher import Frozen
from kdjax.view import View


@dataclasses.dataclass(frozen=True)
class _Moved:
    """What a player trains and its optimizer state afterwards, the metrics of the move, and all outputs of it."""

    variables: dict[str, Variables]
    optimizer: Any
    metrics: dict[str, jax.Array]
    said: Mapping[str, Outputs]


def step(cast: Cast, state: State, frozen: Frozen, batch: Batch, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
    """Every player's moves, in order or together, then what teachers remember of them."""
    step = state['step']
    stored, batch = batch, cast.prepare(batch, key=stream(key, 'prepare', step), train=True)
    rolled = {}
    if cast.rollout is not None:
        draw, kept = stream(key, 'rollout', step), state['memory'][ROLLOUT]
        batch, rolled[ROLLOUT] = rolled_out(cast, cast.rollout, kept, state, frozen, batch, draw)
    variables, optimizer = dict(state['variables']), {}
    metrics: dict[str, jax.Array] = {}
    said: Mapping[str, Outputs] = {}
    for name, player in cast.players.items():
        before = state if cast.turns == 'together' else {**state, 'variables': dict(variables)}
        if player.moves == 1:
            moved = _move(cast, name, before, frozen, batch, key)
        else:
            moved = _moves(cast, name, before, frozen, stored, key)
        variables |= moved.variables
        optimizer[name] = moved.optimizer
        metrics |= {f'{name}/{m}': value for m, value in moved.metrics.items()}
        said = {**moved.said, **said}
    memory = rolled | _remember(cast, state, said, batch, variables)
    return {'step': step + 1, 'variables': variables, 'optimizer': optimizer, 'memory': memory}, metrics


def _moves(cast: Cast, name: str, state: State, frozen: Frozen, stored: Batch, key: jax.Array) -> _Moved:
    """Several moves of one player, each on the stored batch prepared anew. They say nothing that is remembered."""

    def one(mine: tuple[dict[str, Variables], Any], move: jax.Array):
        variables, optimizer = mine
        draw = stream(key, 'move', move)
        batch = cast.prepare(stored, key=stream(draw, 'prepare', state['step']), train=True)
        now = {
            **state,
            'variables': {**state['variables'], **variables},
            'optimizer': {**state['optimizer'], name: optimizer},
        }
        moved = _move(cast, name, now, frozen, batch, draw)
        return (moved.variables, moved.optimizer), moved.metrics

    first = {n: state['variables'][n] for n in cast.group(name)}, state['optimizer'][name]
    (variables, optimizer), metrics = jax.lax.scan(one, first, jnp.arange(cast.players[name].moves))
    return _Moved(variables, optimizer, {m: jnp.mean(values, axis=0) for m, values in metrics.items()}, {})


def _move(cast: Cast, name: str, state: State, frozen: Frozen, batch: Batch, key: jax.Array) -> _Moved:
    """One update of what a player trains."""
    player = cast.players[name]
    found = _gradient(cast, name, state, frozen, batch, key)
    params, optimizer = _updated(player, found.gradient, state['optimizer'][name], _params(cast, name, state))
    variables = {node: {'params': params[node], 'stats': found.stats[node]} for node in cast.group(name)}
    metrics = {n: r.mean for n, r in found.reduced.items()}
    metrics |= {f'{n}/{m}': value for n, r in found.reduced.items() for m, value in r.said.items()}
    metrics |= {'loss': total(found.reduced), 'gradient_norm': optax.tree.norm(found.gradient)}
    return _Moved(variables, optimizer, metrics, found.outputs)


def _params(cast: Cast, name: str, state: State) -> dict[str, Any]:
    return {n: state['variables'][n]['params'] for n in cast.group(name)}


def _gradient(cast: Cast, name: str, state: State, frozen: Frozen, batch: Batch, key: jax.Array) -> Found:
    """Of one player's objective in what it trains; everything else in the state is a constant."""
    before = state['variables']

    def evaluate(params, stats, batch, key):
        updates: dict[str, Variables] = {}
        mine = {n: {'params': params[n], 'stats': stats[n]} for n in params}
        view = view_of(
            cast, {**before, **mine}, state['memory'], frozen, batch,
            step=state['step'], key=key, train=True, updates=updates, who=name,
        )  # fmt: skip
        reduced = cast.players[name].objective(view)
        after = {n: updates[n]['stats'] if n in updates else stats[n] for n in params}
        return reduced, after, view.evaluated()

    stats = {n: before[n]['stats'] for n in cast.group(name)}
    params = _params(cast, name, state)
    return gradient(evaluate, params, stats, batch, key, parts=cast.execution.accumulate)


def _updated(player: Player, gradient: Any, optimizer: Any, params: Any) -> tuple[Any, Any]:
    """Parameters and optimizer state after an update."""
    with jax.numpy_dtype_promotion('standard'):  # optax raises floats to the power of integer counts
        change, optimizer = player.optimizer.update(gradient, optimizer, params)
    return optax.apply_updates(params, change), optimizer


def _remember(cast: Cast, state: State, said: Mapping[str, Outputs], batch: Batch, variables):
    view = View({n: always(outputs) for n, outputs in said.items()}, batch, state['step'])
    return {n: t.update(state['memory'][n], view, variables) for n, t in cast.teachers.items()}


def rolled_out(
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
