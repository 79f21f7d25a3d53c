"""Several seeds of an arm as one program, spread over the `data` axis of the mesh.

Each device runs the whole loop over steps for the seeds that it holds and hears nothing of the others; metrics are
collected after it. With one seed a device, that loop is the one of a single run, and so are its numbers.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from kdjax.algorithms.algorithm import Algorithm, State
from kdjax.errors import UserError
from kdjax.run.layout import DATA, Layout
from kdjax.run.program import Program

EACH, WHOLE, COLUMNS = PartitionSpec(DATA), PartitionSpec(), PartitionSpec(None, DATA)


def places(seeds: int, layout: Layout) -> int:
    """The number of seeds of a program with room for `seeds`: equally many on each device.

    Raises `UserError` where one model is split over devices.
    """
    shape = layout.mesh.shape
    split = ', '.join(f'{axis}={size}' for axis, size in shape.items() if axis != DATA and size > 1)
    if split or layout.own:
        raise UserError(
            f'{seeds} seeds at once with {split or "--shard"}: each seed lives whole on one device. Leave fsdp and '
            'tensor at 1 and give no --shard, or train one seed at a time with --seeds-at-once 1'
        )
    return -(-seeds // shape[DATA]) * shape[DATA]


class Together(Program):
    """A program whose state, key and predictions have an axis of seeds in front, and its metrics behind the steps.

    seeds: as many as `places` gives. per_seed: names of the frozen inputs that have the axis too. A training batch
    holds the batch of every seed, one behind the other; an evaluation batch is one for all.
    """

    def __init__(
        self, algorithm: Algorithm, seeds: int, *, layout: Layout, per_seed: Collection[str] = (), chunk: int = 50
    ):
        self._here, self._per_seed, self._one = seeds // layout.mesh.shape[DATA], frozenset(per_seed), algorithm
        spread = dataclasses.replace(
            algorithm,
            init=self._init,
            evaluate=self._evaluate_all,
            rules=(('', (DATA,)),),
            frozen_rules=tuple((f'^{re.escape(name)}(/|$)', (DATA,)) for name in sorted(per_seed)),
            under=None,
        )
        super().__init__(spread, chunk=chunk, layout=layout)

    def apart(self, tree: Any, runs: int) -> list[Any]:
        """States or predictions of the first `runs` seeds."""
        return [jax.tree.map(lambda x, i=i: x[i, ...], tree) for i in range(runs)]

    def _init(self, key: jax.Array, frozen: Mapping[str, Any], example: Any) -> State:
        def on_device(keys: jax.Array, mine: Any, shared: Any, examples: Any) -> State:
            begin = self._each(lambda key, mine, example: self._one.init(key, {**shared, **mine}, example))
            return begin(keys, mine, jax.tree.map(lambda x: x.reshape(self._here, -1, *x.shape[1:]), examples))

        return self._spread(on_device, (EACH, EACH, WHOLE, EACH), EACH)(key, *self._split(frozen), example)

    def _evaluate_all(self, state: State, frozen: Mapping[str, Any], batch: Any, key: jax.Array) -> Any:
        def on_device(states: State, mine: Any, shared: Any, batch: Any, keys: jax.Array) -> Any:
            said = self._each(lambda state, mine, key: self._one.evaluate(state, {**shared, **mine}, batch, key))
            return said(states, mine, keys)

        specs = (EACH, EACH, WHOLE, WHOLE, EACH)
        return self._spread(on_device, specs, EACH)(state, *self._split(frozen), batch, key)

    def _many(self, state, frozen, data, rows, count, key):
        """From memory each seed has rows of its own, and from disk examples of its own."""
        loop, stored = super()._many, rows.ndim == 1

        def on_device(states, mine, shared, own, common, count, keys):
            def one(state, mine, own, key):
                data, rows = (own, common) if stored else (common, own)
                return loop(state, {**shared, **mine}, data, rows, count, key)

            states, log = self._each(one)(states, mine, jax.tree.map(self._by_seed, own), keys)
            return states, jax.tree.map(lambda values: jnp.moveaxis(values, 0, 1), log)

        own, common = (data, rows) if stored else (rows, data)
        specs = EACH, EACH, WHOLE, COLUMNS, WHOLE, WHOLE, EACH
        spread = self._spread(on_device, specs, (EACH, COLUMNS))
        return spread(state, *self._split(frozen), own, common, count, key)

    def _take(self, data: Any, row: Any) -> Any:
        return jax.tree.map(lambda field: field[row], data)

    def _each(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call` for each seed on a device, along the first axis of every argument and result."""
        if self._here > 1:
            return jax.vmap(call)
        return lambda *arguments: _axis(call(*jax.tree.map(lambda x: x[0], arguments)))

    def _by_seed(self, columns: Any) -> Any:
        """`[steps, seeds * batch, ...]` as `[seeds, steps, batch, ...]`."""
        steps, width, *rest = columns.shape
        return jnp.moveaxis(columns.reshape(steps, self._here, width // self._here, *rest), 1, 0)

    def _split(self, frozen: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What each seed has of its own, and what it shares."""
        mine = {name: value for name, value in frozen.items() if name in self._per_seed}
        return mine, {name: value for name, value in frozen.items() if name not in self._per_seed}

    def _spread(self, call: Callable[..., Any], into: Any, out: Any) -> Callable[..., Any]:
        return jax.shard_map(call, mesh=self.layout.mesh, in_specs=into, out_specs=out, check_vma=False)


def _axis(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[None], tree)
