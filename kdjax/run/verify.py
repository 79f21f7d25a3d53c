"""Verify an experiment: every arm, every seed, paired differences, a verdict, the record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kdjax.algorithms.algorithm import PLAIN, Execution
from kdjax.errors import UserError, unknown
from kdjax.experiment import Arm, Experiment
from kdjax.metrics.calibration import confidences, reliability
from kdjax.record import VERSION, judge, overall
from kdjax.run import identity, pictures
from kdjax.run.fit import Events
from kdjax.run.layout import Layout, single
from kdjax.run.stages import EVENTS, Executor, said_seeds
from kdjax.run.store import Store
from kdjax.stage import Artifact, Train

DISAGREEMENTS = 24
"""How many test images on which teacher and student disagree are listed for the report."""

Progress = Callable[[int, int, str], None]
"""`progress(done, of, what)`."""


@dataclasses.dataclass(frozen=True)
class Verification:
    """What to verify, and how much of it. `name` is family/name; `config` replaces the experiment's own."""

    name: str
    module: str
    experiment: Experiment
    config: Any
    seeds: int
    first_seed: int = 0
    split: str = 'test'
    layout: Layout = dataclasses.field(default_factory=single)
    execution: Execution = PLAIN
    seeds_at_once: int = 1


def verify(
    asked: Verification,
    *,
    store: Store,
    progress: Progress = lambda done, of, what: None,
    say: Callable[[str], None] = lambda _: None,
    events: Events = EVENTS,
) -> dict[str, Any]:
    """Run what is not yet in the store and return the record (see `kdjax.record`)."""
    start = time.perf_counter()
    arms = asked.experiment.resolve(asked.config)
    executor = Executor(
        store, module=asked.module, base_seed=asked.first_seed, say=say, layout=asked.layout,
        execution=asked.execution, at_once=asked.seeds_at_once, events=events,
    )  # fmt: skip
    seeds = list(range(asked.first_seed, asked.first_seed + asked.seeds))
    done: dict[str, list[Artifact]] = {name: [] for name in arms}
    for first in range(0, len(seeds), executor.places):
        group = seeds[first : first + executor.places]
        for name, arm in arms.items():
            progress(sum(map(len, done.values())), len(seeds) * len(arms), f'{name}, {said_seeds(group)}')
            done[name].extend(executor.run_all(arm.stage, group))
    progress(len(seeds) * len(arms), len(seeds) * len(arms), 'done')
    record = _record(asked, arms, done, seeds, executor)
    pictures.keep(record, asked.config, {n: (arm.stage, done[n][0]) for n, arm in arms.items()}, executor)
    return record | {'seconds': time.perf_counter() - start}


def _record(asked: Verification, arms: Mapping[str, Arm], done, seeds: list[int], executor: Executor) -> dict[str, Any]:
    costs = {name: [executor.cost(arm.stage, seed) for seed in seeds] for name, arm in arms.items()}
    summaries = {name: _summary(arm, done[name], costs[name], asked.split) for name, arm in arms.items()}
    claims = [
        judge(c, _metric(summaries, c.left, c.metric), _metric(summaries, c.right, c.metric))
        for c in asked.experiment.read_claims()
    ]
    data = next(iter(arms.values())).stage.data
    config = dataclasses.asdict(asked.config)
    return {
        'version': VERSION,
        'experiment': asked.name,
        'title': asked.experiment.title,
        'systems': list(asked.experiment.systems),
        'config': config,
        'dataset': config.get('dataset', data.name),
        'split': asked.split,
        'seeds': seeds,
        'arms': summaries,
        'claims': claims,
        'verdict': overall(claims),
        'disagreements': _disagreements(arms, done, asked.split, seeds[0], executor),
        'identity': {
            'code': identity.code(asked.module),
            'config': identity.digest(config),
            'data': data.identity,
            'versions': identity.versions(),
            'device': identity.device(),
            'layout': asked.layout.identity,
            'execution': dataclasses.asdict(asked.execution),
            **({'seeds_at_once': executor.places} if executor.places > 1 else {}),
        },
    }


def _metric(summaries: Mapping[str, Any], arm: str, metric: str) -> list[float]:
    metrics = summaries[arm]['metrics']
    if metric not in metrics:
        raise unknown(f"metric of arm '{arm}'", metric, metrics)
    return metrics[metric]


def _summary(arm: Arm, artifacts: list[Artifact], costs: list[dict[str, float]], split: str) -> dict[str, Any]:
    infos = [a.info for a in artifacts]
    if 'metrics' not in infos[0]:
        raise UserError(f"'{arm.stage.name}' measures nothing: let its call return (arrays, {{'metrics': by split}})")
    curves: dict[str, Any] = {'step': []}
    if isinstance(arm.stage, Train):
        curves = {'step': infos[0]['curves']['step']}
        curves |= {n: [i['curves'][n] for i in infos] for n in infos[0]['curves'] if n != 'step'}
    metrics = {m: [i['metrics'][split][m] for i in infos] for m in infos[0]['metrics'][split]}
    return {
        'description': arm.about,
        'metrics': metrics,
        'curves': curves,
        'calibration': _calibration(artifacts, split),
        'cost': {n: float(np.mean([c[n] for c in costs])) for n in costs[0]},
        'state_sha256': [i['state_sha256'] for i in infos if 'state_sha256' in i],
    }


def _calibration(artifacts: list[Artifact], split: str) -> dict[str, list[float | None]]:
    """Reliability over the predictions of all seeds together; nothing where nobody predicts classes or tokens."""
    said = artifacts[0].arrays.get('predictions', {}).get(split, {})
    if not {'confidence', 'student'} & set(said):
        return {'confidence': [], 'accuracy': [], 'count': []}
    found = [confidences(a.arrays['predictions'][split]) for a in artifacts]
    bins = reliability(*(np.concatenate(each) for each in zip(*found, strict=True)))
    return {name: np.asarray(getattr(bins, name)).tolist() for name in ('confidence', 'accuracy', 'count')}


def _disagreements(arms: Mapping[str, Arm], done, split: str, seed: int, executor: Executor) -> list[dict[str, Any]]:
    """Test examples on which the teacher and some arm's first student differ, those with most dissent first."""
    trained = {
        name: arm.stage
        for name, arm in arms.items()
        if isinstance(arm.stage, Train) and 'student' in done[name][0].arrays['predictions'][split]
    }
    reference = next((executor.reference(stage, seed) for stage in trained.values() if stage.reference), None)
    if reference is None:
        return []
    teacher = np.asarray(reference[split]).argmax(-1)
    first = {name: done[name][0].arrays['predictions'][split] for name in trained}
    labels = np.asarray(next(iter(first.values()))['label'])
    said = {name: np.asarray(p['student']).argmax(-1) for name, p in first.items()}
    dissent = sum((s != teacher).astype(int) for s in said.values())
    worst = np.argsort(-dissent, kind='stable')[:DISAGREEMENTS]
    return [
        {
            'index': int(i), 'label': int(labels[i]), 'teacher': int(teacher[i]),
            'students': {name: int(s[i]) for name, s in said.items()},
        }
        for i in worst
        if dissent[i]
    ]  # fmt: skip
