"""`kdjax verify`: every arm over paired seeds, one table, a verdict, a record."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape

from kdjax import record as records
from kdjax.algorithms.algorithm import PLAIN
from kdjax.cli.machine import Machine
from kdjax.cli.parsing import with_overrides
from kdjax.cli.printing import printer, table
from kdjax.cli.progress import progress
from kdjax.cli.sites import record_path, write_report
from kdjax.cli.stopping import Stopping
from kdjax.errors import UserError
from kdjax.report.numbers import NONE, decimal, label, summary
from kdjax.run import verify as verification
from kdjax.run.find import Found
from kdjax.run.group import distributed, preflight
from kdjax.run.layout import DATA, FSDP, TENSOR, Layout
from kdjax.run.preemption import Preemption
from kdjax.run.store import Store

USUAL, COLUMNS = ('accuracy', 'nll', 'ece', 'agreement'), 4
"""Metrics of the table beside those that are claimed, and how many there are at least."""

SPENT = {'student_flops': 1e9, 'teacher_flops': 1e9, 'seconds': 1.0}
"""Costs of the table, and their units."""


@dataclasses.dataclass(frozen=True)
class Verify(Machine):
    """Verify an experiment. Other options override its configuration; the record then goes nowhere but --out."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar='NAME')]
    """The experiment: its name, family/name, or the path of its file."""
    seeds: int | None = None
    """How many paired seeds; default is what the experiment declares."""
    first_seed: int = 0
    """The first seed; it shifts every seed of the verification, the teacher's too."""
    split: Literal['test', 'validation'] = 'test'
    """Where metrics are taken. Hyper-parameters are chosen on validation, verdicts are given on test."""
    seeds_at_once: int | Literal['auto'] = 1
    """How many seeds of a stage are trained as one program, each whole on one of the devices along data; auto: as many
    as there are such devices. Stages that all seeds share use every device. If more than one, the record goes nowhere
    but --out."""
    json: bool = False
    """Print the record, and nothing else, on standard output."""
    out: pathlib.Path | None = None
    """Write the record to this file instead of results/FAMILY/NAME.json."""
    site: pathlib.Path = pathlib.Path('site')
    """Where the report is written."""


def verify(arguments: list[str]) -> int:
    asked, found, config = with_overrides(Verify, 'verify', arguments)
    experiment = found.experiment
    seeds = experiment.seeds if asked.seeds is None else asked.seeds
    if seeds < 1:
        raise UserError(f'--seeds {seeds}: at least one is needed, and two for an interval')
    preflight.check(None, preflight.file_digest(found.path))
    layout = asked.layout()
    at_once = _at_once(asked.seeds_at_once, layout, seeds)
    with Preemption('finishing the step') as preemption, progress(found.name) as shown:
        question = verification.Verification(
            found.name, found.module.__name__, experiment, config, seeds, asked.first_seed, asked.split,
            layout, asked.execution(), at_once,
        )  # fmt: skip
        stopping = Stopping(preemption, *shown)
        with stopping.counted():
            record = verification.verify(
                question, store=Store(), progress=stopping.advance, say=stopping.say, events=stopping.events
            )
    standard = at_once == 1 and _is_standard(asked, seeds, experiment.seeds, config == experiment.config)
    if distributed.is_writer():
        _tell(asked, found, record, _keep(asked, found, record, standard=standard))
    return 0 if record['verdict'] == 'reproduced' else 3


def _at_once(asked: int | str, layout: Layout, seeds: int) -> int:
    """One seed a device unless a number is given, and never more than there are."""
    if isinstance(asked, str):
        shape = layout.mesh.shape
        return 1 if layout.own or shape[FSDP] * shape[TENSOR] > 1 else min(shape[DATA], seeds)
    if asked < 1:
        raise UserError(f'--seeds-at-once {asked}: give at least 1, which is one after the other, or auto')
    return min(asked, seeds)


def _tell(asked: Verify, found: Found, record: dict[str, Any], path: pathlib.Path | None) -> None:
    if asked.json:
        sys.stdout.write(records.dumps(record))
    else:
        show(record, printer())
        if path is not None:
            print(f'record  {path}')
            print(f'report  {write_report(asked.site, new=(found, record))}')


def _is_standard(asked: Verify, seeds: int, declared: int, same_config: bool) -> bool:
    plain = same_config and asked.execution() == PLAIN
    return plain and seeds == declared and asked.first_seed == 0 and asked.split == 'test'


def _keep(asked: Verify, found: Found, record: dict[str, Any], *, standard: bool) -> pathlib.Path | None:
    if asked.out is None and not standard:
        return None
    path = asked.out or record_path(found)
    records.save(record, path)
    return path


def show(record: dict[str, Any], console: Console) -> None:
    """The one table of a verification, and its claims."""
    names = shown_metrics(record)
    title = f'{record["title"]}  ({record["dataset"]}, {record["split"]} split, {len(record["seeds"])} seeds)'
    results = table('arm', *map(label, names), 'GFLOPs', 'teacher GFLOPs', 'seconds', title=title)
    for name, arm in record['arms'].items():
        cost = arm['cost']
        results.add_row(
            name, *(summary(m, arm['metrics'].get(m, ())) for m in names),
            *(decimal(cost[of] / unit if of in cost else None, 1) for of, unit in SPENT.items()),
        )  # fmt: skip
    console.print(results)
    verdicts = table('claim', 'paired difference', '95 % interval', 'verdict')
    for c in record['claims']:
        mean, low, high = (NONE if c[k] is None else f'{c[k]:+.4f}' for k in ('mean', 'low', 'high'))
        verdicts.add_row(c['text'], mean, rf'\[{low}, {high}]', c['verdict'])
    console.print(verdicts)
    for name, arm in record['arms'].items():
        for seed, why in arm.get('diverged', {}).items():
            console.print(f'diverged: {escape(f"{name}, seed {seed}: {why}")}', highlight=False)
    console.print(f'verdict: [bold]{record["verdict"]}[/bold]  ({record["seconds"]:.0f} s)')


def shown_metrics(record: dict[str, Any]) -> list[str]:
    """Those of the claims, and up to `COLUMNS` the usual ones that every arm has."""
    claimed = dict.fromkeys(c['metric'] for c in record['claims'])
    usual = [m for m in USUAL if m not in claimed and all(m in a['metrics'] for a in record['arms'].values())]
    return [*claimed, *usual[: max(0, COLUMNS - len(claimed))]]
