"""Sweeps that nobody ran, for the tests of their pages."""

from __future__ import annotations

import itertools
from typing import Any

from kdjax.run.sweeps.plan import Plan, Trial
from kdjax.run.sweeps.standing import Place, Standing

TEMPERATURES, MODELS, ARMS, SEEDS = (1.0, 2.0, 4.0, 16.0), ('mlp-8', 'mlp-64'), ('kd', 'labels'), (0, 1, 2)


def standing(id: str = 'kd-temperature-student-1a2b3c4d', **changes: Any) -> Standing:
    """Two fields, two arms, three seeds; the last point diverged, and one seed of the first failed."""
    places = [place(t, m, a) for t, m, a in itertools.product(TEMPERATURES, MODELS, ARMS)]
    places[0].metrics['accuracy'].pop()
    failed = ('done', 'done', 'failed (1): <b>no space</b>')
    places[0] = Place(places[0].overrides, places[0].values, 'kd', SEEDS, failed, places[0].metrics)
    places[-1].metrics['accuracy'][1] = None
    trials = tuple(Trial({}, 'kd', s, f'trials/{i}/{s}', ('kdjax', 'run'), {}) for i in range(16) for s in SEEDS)
    plan = {
        'id': id, 'experiment': 'logits/kd', 'title': 'Classic <distillation>', 'fields': ('temperature', 'student'),
        'fixed': {'steps': 300}, 'metric': 'accuracy', 'more': True, 'trials': trials,
    }  # fmt: skip
    return Standing(Plan(**(plan | changes)), 'validation', tuple(places))


def place(temperature: float, model: str, arm: str) -> Place:
    worse = (0.03 if model == 'mlp-8' else 0.0) + (0.02 if arm == 'labels' else 0.0)
    level = 0.9 - 0.001 * (temperature - 4) ** 2 - worse
    accuracy: list[float | None] = [level + 0.004 * (seed - 1) for seed in SEEDS]
    point = {'temperature': temperature, 'student': model}
    return Place(point, point, arm, SEEDS, ('done',) * 3, {'accuracy': accuracy, 'nll': [0.3, 0.31, 0.32]})
