"""The tables of a sweep: what it will do, and where it stands."""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Callable, Sequence

from rich.markup import escape

from kdjax.cli.printing import printer, table
from kdjax.report import numbers
from kdjax.run.sweeps.outcomes import Outcomes
from kdjax.run.sweeps.plan import Plan, Trial, flags
from kdjax.run.sweeps.standing import Place, Standing, said, value_of

WHERE = {
    'validation': 'validation split, on which values are chosen',
    'test': 'TEST split: to look at after the choice, never to choose by',
}


def show_plan(plan: Plan, root: pathlib.Path, command: Callable[[Trial], Sequence[str]]) -> None:
    """A row for each trial, and what it would run."""
    outcomes = Outcomes(root / plan.id)
    commands = {trial.folder: shlex.join(command(trial)) for trial in plan.trials}
    print(f'{plan.id}: {_counted(plan)}')
    shown = table('arm', *plan.fields, 'seed', 'state', 'command')
    for trial in plan.trials:
        values = [said(value_of(trial.settings, field)) for field in plan.fields]
        state = outcomes.state(trial, root)
        shown.add_row(trial.arm, *map(escape, [*values, str(trial.seed), state, commands[trial.folder]]))
    printer().print(shown)


def show_standing(now: Standing) -> None:
    """A row for each point, the best first, and every failure by itself."""
    plan = now.plan
    print(f'{plan.id}: {now.done} of {len(plan.trials)} trials done; {WHERE[now.split]}')
    shown = table('arm', *plan.fields, *now.shown, 'seeds', 'state')
    for place in now.places:
        shown.add_row(place.arm, *map(escape, _cells(place, plan.fields, now.shown)))
    printer().print(shown)


def best(now: Standing, name: str) -> None:
    """The best point in a line, with the command that gives its verdict: only where the choice was an honest one."""
    place = now.best
    if place is None or now.split != 'validation':
        return
    given = flags(now.plan.fixed | place.overrides)
    value = _plain(numbers.summary(now.plan.metric, place.metrics[now.plan.metric]))
    print(f'best  {now.plan.metric} {value} on validation: {place.arm} {" ".join(given)}'.rstrip())
    print(f'then  {shlex.join(["kdjax", "verify", name, *given])}')


def _cells(place: Place, fields: Sequence[str], metrics: Sequence[str]) -> list[str]:
    values = [said(place.values[field]) for field in fields]
    found = [_plain(numbers.summary(m, place.metrics.get(m, []))) for m in metrics]
    open_states = dict.fromkeys(state for state in place.states if state != 'done')
    return [*values, *found, f'{place.done}/{len(place.seeds)}', '; '.join(open_states) or 'done']


def _plain(text: str) -> str:
    return text.replace(numbers.SPACE, ' ')


def _counted(plan: Plan) -> str:
    seeds = {trial.seed for trial in plan.trials}
    points = len(plan.trials) // len(seeds)
    return f'{points} x {len(seeds)} seeds = {len(plan.trials)} trials'
