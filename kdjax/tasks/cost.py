"""What an arm costs: counted from who reads whom, how often they move, and what they say they call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax

from kdjax.algorithms import Player
from kdjax.errors import UserError, unknown
from kdjax.models.count import forward_flops, parameters
from kdjax.models.model import Model


@runtime_checkable
class Bound(Protocol):
    """What is counted of a teacher, see `kdjax.tasks.task.Bound`."""

    @property
    def models(self) -> tuple[Model, ...]: ...

    @property
    def cache_bytes(self) -> int: ...


def cost(
    players: Mapping[str, Player],
    bound: Mapping[str, Bound],
    example: Any,
    seen: int,
    *,
    turns: str = 'together',
) -> dict[str, float]:
    """FLOPs of a run that saw so many examples, of these shapes.

    Three forward passes for every move of a player that reads the batch (arXiv 2001.08361, sec. 2.1), one of each other
    player and each teacher that it reads, unless another has made it from the same draw and the same variables; and the
    `calls` that players state. A player that calls itself states all its passes. `teacher_queries` are forward passes
    of teachers, stated ones as they are stated.
    """

    def forward(model: Model) -> float:
        return forward_flops(model, example)

    calls = _stated(players)
    learned = {n: _own_passes(players, n, turns) + calls.get(n, 0.0) for n in players}
    asked = {n: _asked(players, n) + calls.get(n, 0.0) for n in bound}
    return {
        'parameters': float(parameters(jax.eval_shape(players['student'].model.init, jax.random.key(0), example))),
        'forward_flops': forward(players['student'].model),
        'student_flops': seen * sum(passes * forward(players[n].model) for n, passes in learned.items() if passes),
        'teacher_flops': 1.0 * seen * sum(asked[n] * sum(map(forward, b.models)) for n, b in bound.items() if asked[n]),
        'teacher_queries': float(seen * sum(asked[n] * len(b.models) for n, b in bound.items())),
        'cache_bytes': float(sum(b.cache_bytes for b in bound.values())),
    }


def check_calls(players: Mapping[str, Player], bound: Mapping[str, Bound]) -> None:
    """Raises `UserError` where a network is called as a function and nobody says how often, or says it of nobody."""
    for name, player in players.items():
        networks = {*players, *(n for n, b in bound.items() if b.models)}
        for called in _called(player) & networks - {*player.calls}:
            raise UserError(
                f"player '{name}' calls '{called}()' and does not say how often: give it calls={{'{called}': ...}}, "
                'the forward passes per example and move, for the cost table'
            )
        for called in {*player.calls} - networks:
            raise unknown(f"network that player '{name}' calls", called, networks)


def _called(player: Player) -> set[str]:
    return {address.removesuffix('()') for address in player.objective.addresses if address.endswith('()')}


def _read(player: Player) -> set[str]:
    return {address.partition('.')[0] for address in (*player.reads, *player.objective.addresses)}


def _from_batch(player: Player) -> bool:
    return all(address.startswith('batch.') for address in player.reads)


def _stated(players: Mapping[str, Player]) -> dict[str, float]:
    """The calls of each network in a step, of all players."""
    calls: dict[str, float] = {}
    for player in players.values():
        for name, passes in player.calls.items():
            calls[name] = calls.get(name, 0.0) + player.moves * passes
    return calls


def _own_passes(players: Mapping[str, Player], name: str, turns: str) -> float:
    """Passes of a player in a step that are known from who reads it; of the shapes of the batch alone."""
    player = players[name]
    if not _from_batch(player):
        return 0.0
    own = 0.0 if name in _called(player) else 3.0 * player.moves
    order = list(players)
    others = (
        other.moves
        for peer, other in players.items()
        if peer != name and name in _read(other)
        if other.moves > 1 or player.moves > 1 or (turns == 'in_order' and order.index(name) < order.index(peer))
    )
    return own + 1.0 * sum(others)


def _asked(players: Mapping[str, Player], teacher: str) -> float:
    """Passes of a teacher in a step, from who reads it: one for all who move once, one for every move of the others."""
    moves = [player.moves for player in players.values() if teacher in _read(player)]
    return float(sum(m for m in moves if m > 1) + (1 in moves))
