"""A checkpoint distilled into a checkpoint: measured at the start, on the way and at the end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.algorithm import Execution, State, executed
from kdjax.data.batches import evaluation_batches
from kdjax.record import finite, write_atomically
from kdjax.run import identity
from kdjax.run.fit import Events, Fitted, fit
from kdjax.run.group import distributed
from kdjax.run.layout import Layout
from kdjax.run.program import Program
from kdjax.run.session import Session
from kdjax.tasks import plan
from kdjax.tasks.distillation import HELD_OUT, Distillation
from kdjax.tasks.measuring import TEACHER, measured

START = 'start.json'
"""In the run folder: what the student said before it learned."""

Metrics = dict[str, float]


class Distilling:
    """One distillation on its devices."""

    def __init__(self, work: Distillation, *, seed: int, layout: Layout, execution: Execution):
        self.work, self.seed = work, seed
        self.program = Program(executed(work.algorithm, execution), layout=layout)
        self._key = jax.random.key(seed)
        self._frozen = self.program.place(work.frozen())
        self._rows = max(work.batch // execution.accumulate, 1)

    def train(self, session: Session, events: Events, *, evaluations: int) -> tuple[State, dict[str, Any]]:
        """The final state, and the report: metrics of start, student and teacher by split, the curve, the cost.

        events: of the session; the curve is measured on the validation split, the test split at the start and the end.
        """

        def follow(step: int, state: State) -> None:
            curve = session.course.curves
            curve['step'].append(step)
            for name, value in _students(measured(self._said(state, HELD_OUT[0]))).items():
                curve.setdefault(name, []).append(value)

        every = max(1, self.work.steps // evaluations) if evaluations else 0
        followed = dataclasses.replace(events, evaluate_every=every, on_evaluate=follow)
        fitted = fit(
            self.program, self.work.data['train'], batch=self.work.batch, steps=self.work.steps, seed=self.seed,
            frozen=self._frozen, events=followed, resume=lambda fresh: self._begin(fresh, session),
        )  # fmt: skip
        return fitted.state, self._report(fitted, session)

    def _begin(self, fresh: State, session: Session) -> State:
        """Where a checkpoint left off, or with the student's own weights, measured before they change."""
        found = session.resume(fresh)
        if found is not None:
            return found
        own, like = self.work.start(self._key), fresh['variables']['student']
        copied = jax.tree.map(lambda leaf, at: jax.device_put(jnp.copy(leaf), at.sharding), own, like)
        state = fresh | {'variables': fresh['variables'] | {'student': copied}}
        said = {split: self._said(state, split) for split in HELD_OUT}
        if _uniform(said[HELD_OUT[0]], self.work.teacher.config.vocabulary):
            session.checkpoints.report(
                f"the teacher '{self.work.teacher.said}' gives all tokens about the same probability: is it trained, "
                'and is this its tokenizer? Distilling it teaches nothing'
            )
        start = {split: measured(tokens) for split, tokens in said.items()}
        if distributed.is_writer():
            write_atomically(session.folder.path / START, json.dumps(finite(start), indent=1) + '\n')
        return state

    def _said(self, state: State, split: str) -> dict[str, np.ndarray]:
        batches = evaluation_batches(self.work.data[split], self._rows)
        kept = [jax.device_get(self.program.evaluate(state, self._frozen, b, self._key)) for b in batches]
        return {name: np.concatenate([said[name] for said in kept]) for name in kept[0]}

    def _report(self, fitted: Fitted, session: Session) -> dict[str, Any]:
        ends = {split: measured(self._said(fitted.state, split)) for split in HELD_OUT}
        start = json.loads((session.folder.path / START).read_text())
        tokens = plan.tokens(self.work)
        return {
            'start': {split: _students(metrics) for split, metrics in start.items()},
            'student': {split: _students(metrics) for split, metrics in ends.items()},
            'teacher': {split: _teachers(metrics) for split, metrics in ends.items()},
            'curves': session.course.curves,
            'cost': {
                'seconds': fitted.seconds,
                'tokens': tokens,
                'tokens_per_second': tokens / max(fitted.seconds, 1e-9),
                'flops': plan.operations(self.work),
                'peak_memory_bytes': self.program.peak_memory_bytes,
            },
            'state_sha256': identity.state_digest(self.program.layout.host(fitted.state)),
        }


def _uniform(said: dict[str, np.ndarray], words: int) -> bool:
    """Whether the teacher gives every word the same probability: its likeliest has less than 1.1 times that."""
    return bool(said[f'{TEACHER}confidence'][said['where']].mean() * words < 1.1)


def _students(metrics: Metrics) -> Metrics:
    return {name: value for name, value in metrics.items() if not name.startswith(TEACHER)}


def _teachers(metrics: Metrics) -> Metrics:
    return {name.removeprefix(TEACHER): value for name, value in metrics.items() if name.startswith(TEACHER)}


def pace(session: Session, work: Distillation) -> Callable[[int], str]:
    """For people: how many tokens a second so far, and how long the rest takes at that."""

    def said(step: int) -> str:
        a_step = session.course.seconds / step
        left = (work.steps - step) * a_step
        return f'{work.batch * work.data.length / a_step:,.0f} tokens/s, {left / 60:.1f} min left'

    return said
