"""A stage that trains, for one seed or for several as one program: what is learned, said, measured and spent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kdjax.algorithms.algorithm import State
from kdjax.run import identity
from kdjax.run.course import Course
from kdjax.run.diverged import Diverged
from kdjax.run.fit import Events, Fitted, fit, predict
from kdjax.run.program import Program
from kdjax.stage import Train

CURVE_SPLIT = 'validation'
"""Learning curves are drawn on this split; the test split is read once, at the end."""

HELD_OUT = ('validation', 'test')

Made = tuple[dict[str, Any], dict[str, Any]]
"""Arrays and facts of one seed."""


@dataclasses.dataclass(frozen=True)
class Training:
    """All that the runs of one program need.

    seeds: those of the verification that are wanted. drawn: what their keys and data orders are drawn from: one number,
    or, of a program for several seeds, one for each place. references: what each seed's metrics are compared with.
    """

    stage: Train
    program: Program
    frozen: Mapping[str, Any]
    seeds: Sequence[int]
    drawn: int | tuple[int, ...]
    references: Sequence[Any]

    def run(self, events: Events, resume: Callable[[State], State | None]) -> tuple[State, list[Made]]:
        """Train: the final state, and what each seed made."""
        course = events.course or Course()
        curves: list[dict[str, list[float]]] = [course.curves]
        curves += [{'step': []} for _ in self.seeds[1:]]

        def follow(step: int, state: State) -> None:
            _, measured = self._held_out(state, CURVE_SPLIT)
            for curve, metrics in zip(curves, measured, strict=True):
                curve['step'].append(step)
                for name, value in metrics.items():
                    curve.setdefault(name, []).append(value)
            if events.on_evaluate is not None:
                events.on_evaluate(step, state)

        every = self.stage.evaluate_every
        followed = dataclasses.replace(events, evaluate_every=every, on_evaluate=follow, course=course)
        fitted = self._fit(followed, resume)
        return fitted.state, list(self._made(fitted, curves))

    def _fit(self, events: Events, resume: Callable[[State], State | None]) -> Fitted:
        stage = self.stage
        try:
            return fit(
                self.program, stage.data['train'], batch=stage.batch, steps=stage.steps, seed=self.drawn,
                frozen=self.frozen, events=events, resume=resume,
            )  # fmt: skip
        except Diverged as error:
            if isinstance(self.drawn, int):
                raise
            seed = self.seeds[min(error.which, len(self.seeds) - 1)]
            raise error.of(f'{stage.name}, seed {seed}') from None

    def _held_out(self, state: State, split: str) -> tuple[list[dict[str, np.ndarray]], list[dict[str, float]]]:
        """What each seed says of a split, and how good that is."""
        predicted = predict(self.program, state, self.frozen, self.stage.data[split], seed=self.drawn)
        said = self.program.apart(predicted, len(self.seeds))
        compared = [None if reference is None else reference[split] for reference in self.references]
        return said, [self.stage.measure(s, r) for s, r in zip(said, compared, strict=True)]

    def _made(self, fitted: Fitted, curves: Sequence[Mapping[str, Any]]) -> Iterable[Made]:
        held_out = {split: self._held_out(fitted.state, split) for split in HELD_OUT}
        states = self.program.apart(self.program.layout.host(fitted.state), len(self.seeds))
        spent = {
            'seconds': fitted.seconds / len(self.seeds),
            'peak_memory_bytes': self.program.peak_memory_bytes,
        }
        for i, state in enumerate(states):
            predictions = {split: said[i] for split, (said, _) in held_out.items()}
            info = {
                'metrics': {split: measured[i] for split, (_, measured) in held_out.items()},
                'curves': curves[i],
                'cost': self.stage.cost() | spent,
                'state_sha256': identity.state_digest(state),
            }
            yield {'variables': state['variables'], 'predictions': predictions}, info
