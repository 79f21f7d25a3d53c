"""THE loop. Everything that trains here trains through `fit`."""

from __future__ import annotations

import dataclasses
import enum
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.algorithm import State
from kdjax.data.batches import evaluation_batches
from kdjax.data.dataset import Source
from kdjax.run import diverged
from kdjax.run.course import Course
from kdjax.run.feed import Feed
from kdjax.run.pace import Pace
from kdjax.run.preemption import Preempted
from kdjax.run.program import Program

EVALUATION_BATCH = 256

Seeds = tuple[int, ...]


class Ask(enum.Enum):
    """What the loop is asked between two chunks: to go on, to save now, or to save and stop."""

    GO = 0
    SAVE = 1
    STOP = 2


@dataclasses.dataclass(frozen=True)
class Events:
    """What happens between steps. Each is called at multiples of its period, and at the last step.

    on_log(step, row): mean of every metric since the last row. on_evaluate(step, state): state before it is trained on.
    on_save(step, state): the state is finite up to this step; `keep_every` is a second period of it. ask(step): called
    after every chunk; the answer has to be the same in every process.
    course: what the run remembers besides its state, for those who save and restore it.
    rollbacks: how often the run may go back to what `resume` gives when a number is not finite.
    """

    log_every: int = 50
    on_log: Callable[[int, dict[str, float]], None] | None = None
    evaluate_every: int = 0
    on_evaluate: Callable[[int, State], None] | None = None
    save_every: int = 0
    keep_every: int = 0
    on_save: Callable[[int, State], None] | None = None
    ask: Callable[[int], Ask] = lambda step: Ask.GO
    course: Course | None = None
    rollbacks: int = 0

    def _periods(self) -> tuple[int, ...]:
        return self.log_every, self.evaluate_every, self.save_every, self.keep_every

    def boundaries(self, first: int, steps: int, chunk: int) -> list[int]:
        """The steps at which the device is asked to stop: every event, and never more than `chunk` apart."""
        stops = {first, steps}
        for every in (*self._periods(), chunk):
            if every:
                stops.update(range(first - first % every + every, steps, every))
        return sorted(stops)

    def due(self, step: int, last: int) -> bool:
        return any(_falls(every, step, last) for every in self._periods())

    def announce(self, step: int, last: int, state: State, course: Course, asked: Ask) -> None:
        """Tell everyone whose turn it is: the row first, so that a checkpoint never knows more than the rows do."""
        planned = _falls(self.save_every, step, last) or _falls(self.keep_every, step, last)
        saving = self.on_save is not None and (planned or asked is not Ask.GO)
        if saving:
            diverged.check_state(state, step)
        if self.on_log and _falls(self.log_every, step, last):
            self.on_log(step, course.row())
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
    seed: int | Seeds,
    frozen: Mapping[str, Any],
    events: Events,
    resume: Callable[[State], State | None] = lambda _: None,
) -> Fitted:
    """Train for `steps` in all. `resume` gets the fresh state and returns the one to go on from, or None for the
    fresh one.

    The run is a function of (program, source, frozen, seed): the seed gives the run's key and the order of the data.
    Several seeds are for a program of as many (see `together`), with `batch` examples a step for each.
    Raises `Diverged` at the first metric that is not finite, after `events.rollbacks` of them; `Preempted` once the
    state is saved, if `events.ask` says to stop.
    """
    key, seeds = _key(seed), (seed,) if isinstance(seed, int) else seed
    course = events.course or Course()
    while True:
        feed = Feed(source, batch=batch, seeds=seeds, chunk=program.chunk, layout=program.layout)
        fresh = program.init(key, frozen, feed.example())
        restored = resume(fresh)
        feed.seeds = tuple(map(course.seed, seeds))
        state = jax.block_until_ready(fresh if restored is None else restored)
        try:
            return _train(program, state, frozen, feed, key, steps, events, course)
        except diverged.Diverged as error:
            if course.order >= events.rollbacks:
                raise
            course.roll_back(str(error))


def _train(
    program: Program, state: State, frozen: Any, feed: Feed, key: jax.Array, steps: int, events: Events, course: Course
) -> Fitted:
    """From the step of the state to the last."""
    step, pace, watch = _step(program, state), Pace(program.chunk), _Stopwatch(program)

    def settle() -> None:
        course.settle(state, lambda step: feed.source.take(feed.rows(step, 1)[0]))
        course.seconds += watch.lap()

    for _, data, rows in feed.chunks(events.boundaries(step, steps, program.chunk)):
        for part in pace.parts(rows):
            state, log = program.run(state, frozen, data, part, key)
            course.add(step, log)
            step += len(part)
            pace.keep(log, len(part))
            asked = events.ask(step)
            if asked is Ask.GO and not events.due(step, steps):
                continue
            settle()
            events.announce(step, steps, state, course, asked)
            if asked is Ask.STOP:
                raise Preempted(f'asked to stop after step {step} of {steps}')
            watch.lap()
            pace.rest()
    settle()
    return Fitted(state, course.seconds)


def _key(seed: int | Seeds) -> jax.Array:
    return jax.random.key(seed) if isinstance(seed, int) else jnp.stack([jax.random.key(s) for s in seed])


def _step(program: Program, state: State) -> int:
    """Where the state is; several seeds are at the same step."""
    return int(np.ravel(program.layout.host(state['step']))[0])


class _Stopwatch:
    """Seconds between laps, without those in which the program compiled."""

    def __init__(self, program: Program):
        self._program = program
        self._last = self._now()

    def _now(self) -> float:
        return time.perf_counter() - self._program.compile_seconds

    def lap(self) -> float:
        last, self._last = self._last, self._now()
        return self._last - last


def predict(
    program: Program, state: State, frozen: Mapping[str, Any], source: Source, *, seed: int | Seeds
) -> dict[str, np.ndarray]:
    """Everything that the algorithm evaluates, for every example of a split in order, and its `label` if it has one.

    Of several seeds each array has them in front: `[seeds, examples, ...]`.
    """
    key, axis = _key(seed), 0 if isinstance(seed, int) else 1
    kept: list[dict[str, np.ndarray]] = []
    for batch in evaluation_batches(source, EVALUATION_BATCH):
        where = batch.pop('where')
        said = jax.device_get(program.evaluate(state, frozen, batch, key))
        if 'label' in batch:
            said['label'] = np.broadcast_to(batch['label'], (*key.shape, *np.shape(batch['label'])))
        kept.append({name: np.compress(where, values, axis) for name, values in said.items()})
    return {name: np.concatenate([k[name] for k in kept], axis) for name in kept[0]}
