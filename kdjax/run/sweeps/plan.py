"""The plan of a sweep: one trial for each point, arm and seed, each with its own run folder and command line.

    <root>/<id>/plan.json            the plan
    <root>/<id>/outcomes.json        how its trials ended
    <root>/trials/FAMILY/NAME/ARM/POINT/SEED   run folders, which sweeps share

A run folder is named by the digest of all that it is made from, so that a larger sweep finds what a smaller one
trained, and other code, data or versions never mix with it.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kdjax.errors import UserError, unknown
from kdjax.experiment import Arm, Experiment
from kdjax.record import finite, write_atomically
from kdjax.run import identity
from kdjax.run.find import Found
from kdjax.run.sweeps.combinators import Point, Sweep, fields

VERSION = 1
PLAN = 'plan.json'


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    overrides: what its point says, typed. folder: its run folder, relative to the root of all sweeps. command: what a
    shell would run. settings: what the run writes into config.json.
    """

    overrides: Point
    arm: str
    seed: int
    folder: str
    command: tuple[str, ...]
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep as trials, in order. fields: what is swept. fixed: what differs from the experiment's configuration in
    every trial. metric, more: what the points are sorted by, and whether more of it is better."""

    id: str
    experiment: str
    title: str
    fields: tuple[str, ...]
    fixed: dict[str, Any]
    metric: str
    more: bool
    trials: tuple[Trial, ...]
    version: int = VERSION


@dataclasses.dataclass(frozen=True)
class Question:
    """What a sweep is asked for. base: the configuration with what is fixed. name: how the experiment is called."""

    found: Found
    name: str
    base: Any
    sweep: Sweep
    arms: Sequence[str]
    seeds: Sequence[int]
    metric: str
    more: bool


def make(asked: Question, root: pathlib.Path) -> Plan:
    """The plan, written nowhere yet. Every point's arms are built: a value that no model can take is refused here."""
    if not asked.sweep or not asked.seeds:
        raise UserError('the sweep has no point: give --over FIELD=VALUE,VALUE, and at least one seed')
    trials: dict[str, Trial] = {}
    for point in asked.sweep:
        config = replaced(asked.base, point)
        arms = _arms(asked.found.experiment, config, point)
        for arm in asked.arms:
            if arm not in arms:
                raise unknown(f"arm of '{asked.found.name}'", arm, arms)
            for trial in _trials(asked, point, config, arm, arms[arm], root):
                trials.setdefault(trial.folder, trial)
    swept = fields(asked.sweep)
    fixed = _differences(asked.found.experiment.config, asked.base)
    return Plan(
        _called(asked.found, swept, trials), asked.found.name, asked.found.experiment.title, tuple(swept), fixed,
        asked.metric, asked.more, tuple(trials.values()),
    )  # fmt: skip


def replaced(config: Any, point: Mapping[str, Any]) -> Any:
    """The configuration with a point's values; dots lead into nested dataclasses."""
    for path, value in point.items():
        config = _replaced(config, path.split('.'), value)
    return config


def flat(config: Any) -> dict[str, Any]:
    """Every field with its value; nested dataclasses as 'outer.inner'."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found |= {f'{field.name}.{inner}': v for inner, v in flat(value).items()}
        else:
            found[field.name] = value
    return found


def flags(point: Mapping[str, Any]) -> list[str]:
    """A point as options of the command line, in the form that every value survives."""
    return [word for path, value in point.items() for word in _flag(path.replace('_', '-'), value)]


def save(plan: Plan, root: pathlib.Path) -> pathlib.Path:
    """Write <root>/<id>/plan.json; returns the sweep's folder."""
    folder = root / plan.id
    try:
        write_atomically(folder / PLAN, json.dumps(finite(dataclasses.asdict(plan)), indent=1) + '\n')
    except OSError as error:
        raise UserError(f'the sweep {folder} cannot be kept ({error}): choose another place with --out') from error
    return folder


def load(path: pathlib.Path) -> Plan:
    """Read a plan.json. Raises `UserError` for what is none, or one of another version."""
    try:
        read = json.loads(path.read_text())
        version = read['version']
        if version == VERSION:
            return _plan(read)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the plan of a sweep ({error!r}): write it anew with 'kdjax sweep'") from error
    raise UserError(
        f"{path} is a plan of version {version}, this kdjax reads version {VERSION}: write it anew with 'kdjax sweep'"
    )


def result(trial: Trial, root: pathlib.Path) -> dict[str, Any] | None:
    """What a finished trial wrote; None unless its folder holds a result of the same settings."""
    folder = root / trial.folder
    try:
        there, found = (json.loads((folder / name).read_text()) for name in ('config.json', 'result.json'))
    except (OSError, ValueError):
        return None
    wanted = json.loads(json.dumps(finite(trial.settings)))
    same = all(there.get(name) == value for name, value in wanted.items())
    return found if same and 'metrics' in found else None


def _plan(read: dict[str, Any]) -> Plan:
    trials = tuple(Trial(**(t | {'command': tuple(t['command'])})) for t in read['trials'])
    return Plan(**(read | {'trials': trials, 'fields': tuple(read['fields'])}))


def _arms(experiment: Experiment, config: Any, point: Point) -> dict[str, Arm]:
    try:
        return experiment.resolve(config)
    except UserError as error:
        said = ', '.join(f'{field}={value}' for field, value in point.items())
        raise UserError(f'the point {said}: {error}') from error


def _trials(
    asked: Question, point: Point, config: Any, arm: str, made: Arm, root: pathlib.Path
) -> Iterable[Trial]:
    own = {
        'experiment': asked.found.name,
        'arm': arm,
        'config': dataclasses.asdict(config),
        'code': identity.code(asked.found.module.__name__),
        'data': made.stage.data.identity,
        'versions': identity.versions(),
    }
    differ = _differences(asked.found.experiment.config, config)
    place = f'trials/{asked.found.name}/{arm}/{_label(differ)}-{identity.digest(own)[:8]}'
    given = differ | point
    for seed in asked.seeds:
        folder = f'{place}/{seed}'
        command = (
            'kdjax', 'run', asked.name, '--arm', arm, '--seed', str(seed), '--out', str(root / folder), *flags(given)
        )  # fmt: skip
        settings = {'experiment': asked.found.name, 'arm': arm, 'seed': seed, **dataclasses.asdict(config)}
        yield Trial(dict(point), arm, seed, folder, command, settings)


def _replaced(config: Any, path: list[str], value: Any) -> Any:
    first, *rest = path
    return dataclasses.replace(config, **{first: _replaced(getattr(config, first), rest, value) if rest else value})


def _differences(old: Any, new: Any) -> dict[str, Any]:
    before = flat(old)
    return {path: value for path, value in flat(new).items() if before.get(path) != value}


def _flag(path: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        outer, dot, inner = path.rpartition('.')
        return [f'--{path}' if value else f'--{outer}{dot}no-{inner}']
    if isinstance(value, (tuple, list)):
        return [f'--{path}', *map(str, value)]
    return [f'--{path}={value}']


def _label(differ: Mapping[str, Any]) -> str:
    """Readable, and fit for a folder's name; the digest beside it tells apart what is cut off."""
    said = ','.join(f'{field}={value}' for field, value in differ.items()) or 'default'
    return re.sub(r'[^\w.,=+-]+', '_', said)[:80]


def _called(found: Found, swept: Sequence[str], trials: Iterable[str]) -> str:
    words = '-'.join([found.path.stem, *swept])
    return f'{re.sub(r"[^a-zA-Z0-9_-]+", "_", words)[:60]}-{identity.digest(list(trials))[:8]}'
