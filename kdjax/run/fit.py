"""THE loop. Everything that trains here trains through `fit`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from kdjax.algorithms.algorithm import State
from kdjax.data.batches import evaluation_batches
from kdjax.data.dataset import Source
from kdjax.run import diverged
from kdjax.run.feed import Feed
from kdjax.run.program import Program

EVALUATION_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Events:
    """What happens between steps. Each is called at multiples of its period, and at the last step.

    on_log(step, row): mean of every metric since the last row. on_evaluate(step, state): state before it is trained on.
    on_save(step, state): the state is finite up to this step.
    """

    log_every: int = 50
    on_log: Callable[[int, dict[str, float]], None] | None = None
    evaluate_every: int = 0
    on_evaluate: Callable[[int, State], None] | None = None
    save_every: int = 0
    on_save: Callable[[int, State], None] | None = None

    def boundaries(self, first: int, steps: int, chunk: int) -> list[int]:
        """The steps at which the device is asked to stop: every event, and never more than `chunk` apart."""
        stops = {first, steps}
        for every in (self.log_every, self.evaluate_every, self.save_every, chunk):
            if every:
                stops.update(range(first - first % every + every, steps, every))
        return sorted(stops)

    def due(self, step: int, last: int) -> bool:
        return any(_falls(every, step, last) for every in (self.log_every, self.evaluate_every, self.save_every))

    def announce(self, step: int, last: int, state: State, window: _Window) -> None:
        saving = self.on_save is not None and _falls(self.save_every, step, last)
        if saving:
            diverged.check_state(state, step)
        if self.on_log and _falls(self.log_every, step, last):
            self.on_log(step, window.row())
        if self.on_evaluate and _falls(self.evaluate_every, step, last):
            self.on_evaluate(step, state)
        if self.on_save and saving:
            self.on_save(step, state)


def _falls(every: int, step: int, last: int) -> bool:
    return bool(every) and (step % every == 0 or step == last)


@dataclasses.dataclass
class Fitted:
    """A finished run: its state, and the seconds it trained (without compilation, evaluation and saving)."""

    state: State
    seconds: float


def fit(
    program: Program,
    source: Source,
    *,
    batch: int,
    steps: int,
    seed: int,
    frozen: Mapping[str, Any],
    events: Events,
    resume: Callable[[State], State | None] = lambda _: None,
) -> Fitted:
    """Train for `steps` in all. `resume` gets the fresh state and returns the one to go on from, or None for the
    fresh one.

    The run is a function of (program, source, frozen, seed): the seed gives the run's key and the order of the data.
    Raises `Diverged` at the first metric that is not finite.
    """
    key = jax.random.key(seed)
    feed = Feed(source, batch=batch, seed=seed, chunk=program.chunk)
    fresh = program.init(key, frozen, feed.example())
    restored = resume(fresh)
    state = jax.block_until_ready(fresh if restored is None else restored)
    window = _Window(lambda step: source.take(feed.rows(step, 1)[0]))
    seconds, compiled = 0.0, program.compile_seconds
    clock = time.perf_counter()
    for end, data, rows in feed.chunks(events.boundaries(int(state['step']), steps, program.chunk)):
        state, log = program.run(state, frozen, data, rows, key)
        window.add(end - len(rows), log)
        if events.due(end, steps):
            window.settle(state)
            seconds += time.perf_counter() - clock
            events.announce(end, steps, state, window)
            clock = time.perf_counter()
    window.settle(state)
    return Fitted(state, seconds + time.perf_counter() - clock - (program.compile_seconds - compiled))


class _Window:
    """The metrics since the last row: on the device until someone asks, checked when they are fetched."""

    def __init__(self, batch_at: Callable[[int], Any]):
        self._batch_at = batch_at
        self._pending: list[tuple[int, Any]] = []
        self._fetched: list[dict[str, np.ndarray]] = []

    def add(self, first_step: int, log: Any) -> None:
        self._pending.append((first_step, log))

    def settle(self, state: State) -> None:
        """Wait for the steps so far; raise `Diverged` if one of them is not finite."""
        for first_step, log in self._pending:
            metrics = {name: np.stack(values) for name, values in jax.device_get(log).items()}
            diverged.check(metrics, first_step, state=state, batch_at=self._batch_at)
            self._fetched.append(metrics)
        self._pending.clear()

    def row(self) -> dict[str, float]:
        """The mean of every metric since the last row."""
        fetched, self._fetched = self._fetched, []
        return {n: float(np.concatenate([m[n] for m in fetched]).mean(dtype=np.float64)) for n in fetched[0]}


def predict(
    program: Program, state: State, frozen: Mapping[str, Any], source: Source, *, seed: int
) -> dict[str, np.ndarray]:
    """Everything that the algorithm evaluates, for every example of a split in order, and its `label`."""
    key = jax.random.key(seed)
    kept: list[dict[str, np.ndarray]] = []
    for batch in evaluation_batches(source, EVALUATION_BATCH):
        where = batch.pop('where')
        said = jax.device_get(program.evaluate(state, frozen, batch, key)) | {'label': batch['label']}
        kept.append({name: np.asarray(values)[where] for name, values in said.items()})
    return {name: np.concatenate([k[name] for k in kept]) for name in kept[0]}
