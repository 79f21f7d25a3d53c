"""Verify an experiment: every arm, every seed, paired differences, a verdict, the record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kdjax.algorithms.algorithm import PLAIN, Execution
from kdjax.errors import UserError, unknown
from kdjax.experiment import Arm, Claim, Experiment
from kdjax.metrics.calibration import confidences, reliability
from kdjax.record import VERSION, overall
from kdjax.run import identity, pictures
from kdjax.run.fit import Events
from kdjax.run.layout import Layout, single
from kdjax.run.stages import EVENTS, Executor, said_seeds
from kdjax.run.store import Store
from kdjax.run.surviving import Surviving, own_stages
from kdjax.run.verdict import judged
from kdjax.stage import Artifact, Train

DISAGREEMENTS = 24
"""How many test images on which teacher and student disagree are listed for the report."""

Progress = Callable[[int, int, str], None]
"""`progress(done, of, what)`."""


@dataclasses.dataclass
class Results:
    """What an arm left, by seed, and why it left nothing at the others."""

    artifacts: dict[int, Artifact] = dataclasses.field(default_factory=dict)
    diverged: dict[int, str] = dataclasses.field(default_factory=dict)

    def add(self, made: Mapping[int, Artifact], lost: Mapping[int, str]) -> None:
        self.artifacts |= made
        self.diverged |= lost

    def __len__(self) -> int:
        return len(self.artifacts) + len(self.diverged)


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
    """Run what is not yet in the store and return the record (see `kdjax.record`).

    An arm that diverges at a seed has no numbers there (None), and under `diverged` the record says why, by seed; what
    that means for a claim says `kdjax.run.verdict.judged`. Raises `UserError` where a stage of several arms diverges.
    """
    start = time.perf_counter()
    arms = asked.experiment.resolve(asked.config)
    executor = Surviving(
        store, module=asked.module, base_seed=asked.first_seed, say=say, layout=asked.layout,
        execution=asked.execution, at_once=asked.seeds_at_once, events=events,
    )  # fmt: skip
    seeds = list(range(asked.first_seed, asked.first_seed + asked.seeds))
    done, own = {name: Results() for name in arms}, own_stages(arms)
    for first in range(0, len(seeds), executor.places):
        group = seeds[first : first + executor.places]
        for name, arm in arms.items():
            progress(sum(map(len, done.values())), len(seeds) * len(arms), f'{name}, {said_seeds(group)}')
            done[name].add(*executor.attempt(arm.stage, group, own=own[name]))
    progress(len(seeds) * len(arms), len(seeds) * len(arms), 'done')
    record = _record(asked, arms, done, seeds, executor)
    _keep_pictures(record, asked, arms, done, executor)
    return record | {'seconds': time.perf_counter() - start}


def _keep_pictures(
    record: Mapping[str, Any], asked: Verification, arms: Mapping[str, Arm], done: Mapping[str, Results],
    executor: Executor,
) -> None:  # fmt: skip
    """A record is worth more than its pictures: it is not lost with them."""
    first = record['seeds'][0]
    shown = {n: (arm.stage, done[n].artifacts[first]) for n, arm in arms.items() if first in done[n].artifacts}
    try:
        pictures.keep(record, asked.config, shown, executor)
    except Exception as error:
        whose = ', '.join(getattr(error, '__notes__', ()))
        executor.say(f'no samples are kept for the report{whose and f" ({whose})"}: {type(error).__name__}: {error}')


def _record(
    asked: Verification, arms: Mapping[str, Arm], done: Mapping[str, Results], seeds: list[int], executor: Executor
) -> dict[str, Any]:
    summaries = {name: _summary(arm, done[name], seeds, asked.split, executor) for name, arm in arms.items()}
    claims = asked.experiment.read_claims()
    _name_absent(summaries, claims, len(seeds))
    judgements = [
        judged(c, _metric(summaries, c.left, c.metric, seeds), _metric(summaries, c.right, c.metric, seeds))
        for c in claims
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
        'claims': judgements,
        'verdict': overall(judgements),
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


def _metric(summaries: Mapping[str, Any], arm: str, metric: str, seeds: list[int]) -> list[float | None]:
    """By seed. Those at which the number alone is not finite diverged too."""
    metrics = summaries[arm]['metrics']
    if metric not in metrics:
        raise unknown(f"metric of arm '{arm}'", metric, metrics)
    for seed, value in zip(seeds, metrics[metric], strict=True):
        if value is not None and not np.isfinite(value):
            summaries[arm].setdefault('diverged', {}).setdefault(str(seed), f"'{metric}' is {value}")
    return metrics[metric]


def _name_absent(summaries: Mapping[str, Any], claims: Sequence[Claim], seeds: int) -> None:
    """An arm that diverged at every seed has, without numbers, what is claimed of it and what all others have."""
    measured = [set(s['metrics']) for s in summaries.values() if s['metrics']]
    common = set.intersection(*measured) if measured else set()
    for name, summary in summaries.items():
        if not summary['metrics']:
            claimed = {c.metric for c in claims if name in (c.left, c.right)}
            summary['metrics'] = {metric: [None] * seeds for metric in sorted(claimed | common)}


def _summary(arm: Arm, found: Results, seeds: list[int], split: str, executor: Executor) -> dict[str, Any]:
    """Of one arm, in order of seeds: None where it diverged, and of a curve nothing."""
    artifacts = list(found.artifacts.values())
    costs = [executor.cost(arm.stage, seed) for seed in found.artifacts]
    infos = [found.artifacts[seed].info if seed in found.artifacts else None for seed in seeds]
    first = next((info for info in infos if info is not None), None)
    if first is not None and 'metrics' not in first:
        raise UserError(f"'{arm.stage.name}' measures nothing: let its call return (arrays, {{'metrics': by split}})")
    curves: dict[str, Any] = {'step': []}
    if first is not None and isinstance(arm.stage, Train):
        curves = {'step': first['curves']['step']}
        curves |= {n: [i['curves'][n] if i else [] for i in infos] for n in first['curves'] if n != 'step'}
    measured = first['metrics'][split] if first else ()
    digests = [i['state_sha256'] if i else None for i in infos if i is None or 'state_sha256' in i]
    return {
        'description': arm.about,
        'metrics': {m: [i['metrics'][split][m] if i else None for i in infos] for m in measured},
        'curves': curves,
        'calibration': _calibration(artifacts, split),
        'cost': {n: float(np.mean([c[n] for c in costs])) for n in (costs[0] if costs else ())},
        'state_sha256': digests if any(digests) else [],
        **({'diverged': {str(seed): why for seed, why in found.diverged.items()}} if found.diverged else {}),
    }


def _calibration(artifacts: list[Artifact], split: str) -> dict[str, list[float | None]]:
    """Reliability over the predictions of all seeds together; nothing where nobody predicts classes or tokens."""
    said = artifacts[0].arrays.get('predictions', {}).get(split, {}) if artifacts else {}
    if not {'confidence', 'student'} & set(said):
        return {'confidence': [], 'accuracy': [], 'count': []}
    found = [confidences(a.arrays['predictions'][split]) for a in artifacts]
    bins = reliability(*(np.concatenate(each) for each in zip(*found, strict=True)))
    return {name: np.asarray(getattr(bins, name)).tolist() for name in ('confidence', 'accuracy', 'count')}


def _disagreements(
    arms: Mapping[str, Arm], done: Mapping[str, Results], split: str, seed: int, executor: Executor
) -> list[dict[str, Any]]:
    """Test examples on which the teacher and some arm's first student differ, those with most dissent first."""
    predicted = {
        name: found.artifacts[seed].arrays['predictions'][split]
        for name, found in done.items()
        if isinstance(arms[name].stage, Train) and seed in found.artifacts
    }
    first = {name: said for name, said in predicted.items() if 'student' in said}
    trained = [stage for name in first if isinstance(stage := arms[name].stage, Train)]
    reference = next((executor.reference(stage, seed) for stage in trained if stage.reference), None)
    if reference is None:
        return []
    teacher = np.asarray(reference[split]).argmax(-1)
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
