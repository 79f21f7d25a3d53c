"""Where a sweep stands: its points with what their seeds found, the best first."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kdjax.run.sweeps.outcomes import Outcomes
from kdjax.run.sweeps.plan import PLAN, Plan, Trial, load, result

Number = float | None

SWEEPS = pathlib.Path('runs') / 'sweeps'
"""Where sweeps are kept unless another place is given, and where the report looks for them."""

BESIDE = ('accuracy', 'nll', 'ece', 'agreement')
"""Shown after the metric that sorts, where runs have them."""


@dataclasses.dataclass(frozen=True)
class Place:
    """One point with one arm. values: of every swept field, also where the point keeps the experiment's value.
    states: one for each seed, in words. metrics: name -> a value for each seed that is done."""

    overrides: dict[str, Any]
    values: dict[str, Any]
    arm: str
    seeds: tuple[int, ...]
    states: tuple[str, ...]
    metrics: dict[str, list[Number]]

    @property
    def done(self) -> int:
        return self.states.count('done')

    @property
    def whole(self) -> bool:
        return self.done == len(self.seeds)

    def mean(self, metric: str) -> float:
        """NaN where no seed is done, or one of them diverged."""
        found = self.metrics.get(metric, [])
        return sum(found) / len(found) if found and all(map(_known, found)) else math.nan  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Standing:
    """A plan with its places, sorted by its metric on one split."""

    plan: Plan
    split: str
    places: tuple[Place, ...]

    @property
    def metrics(self) -> list[str]:
        """What was measured."""
        return list(dict.fromkeys(m for place in self.places for m in place.metrics))

    @property
    def shown(self) -> list[str]:
        """The metric that sorts, and those that stand beside it."""
        return [self.plan.metric, *(m for m in BESIDE if m in self.metrics and m != self.plan.metric)]

    @property
    def best(self) -> Place | None:
        """The first place, if all its seeds are done and nothing is left that could still beat it."""
        first = self.places[0]
        ended = all(state == 'done' or state.startswith('failed') for p in self.places for state in p.states)
        return first if ended and first.whole and math.isfinite(first.mean(self.plan.metric)) else None

    @property
    def done(self) -> int:
        return sum(place.done for place in self.places)


def standing(plan: Plan, root: pathlib.Path, split: str) -> Standing:
    """Read what is there. split: 'validation' or 'test'."""
    outcomes = Outcomes(root / plan.id)
    groups: dict[str, list[Trial]] = {}
    for trial in plan.trials:
        groups.setdefault(trial.folder.rpartition('/')[0], []).append(trial)
    places = [_place(plan, trials, root, outcomes, split) for trials in groups.values()]
    return Standing(plan, split, tuple(sorted(places, key=lambda place: _rank(place, plan))))


def standings(root: pathlib.Path, split: str) -> list[Standing]:
    """Every sweep that has its plan under `root`, by name."""
    return [standing(load(path), root, split) for path in sorted(root.glob(f'*/{PLAN}'))]


def value_of(settings: Mapping[str, Any], path: str) -> Any:
    """What nested settings say of a dotted field."""
    for name in path.split('.'):
        settings = settings[name]
    return settings


def said(value: Any) -> str:
    """A value as one writes it on the command line."""
    return ' '.join(map(said, value)) if isinstance(value, (tuple, list)) else str(value)


def _place(plan: Plan, trials: Sequence[Trial], root: pathlib.Path, outcomes: Outcomes, split: str) -> Place:
    found = [r['metrics'].get(split, {}) for r in (result(trial, root) for trial in trials) if r is not None]
    first = trials[0]
    return Place(
        first.overrides,
        {field: value_of(first.settings, field) for field in plan.fields},
        first.arm,
        tuple(trial.seed for trial in trials),
        tuple(outcomes.state(trial, root) for trial in trials),
        {name: [r.get(name) for r in found] for name in _names(found)},
    )


def _names(found: Iterable[Mapping[str, Number]]) -> list[str]:
    return list(dict.fromkeys(name for metrics in found for name in metrics))


def _rank(place: Place, plan: Plan) -> tuple[bool, bool, float]:
    """A point without all of its seeds stands behind: those that are left may be the lucky ones."""
    mean = place.mean(plan.metric)
    return math.isnan(mean), not place.whole, 0.0 if math.isnan(mean) else -mean if plan.more else mean


def _known(value: Number) -> bool:
    return value is not None and math.isfinite(value)
