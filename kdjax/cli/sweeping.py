"""`kdjax sweep`: train an arm at many points of its configuration, and show which is best on the validation split."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal

import tyro

from kdjax.cli.overrides import Reader, declared, read_sweep
from kdjax.cli.parsing import with_overrides
from kdjax.cli.progress import progress
from kdjax.cli.standings import best, show_plan, show_standing
from kdjax.errors import UserError, unknown
from kdjax.record import finite
from kdjax.report.numbers import BETTER, base
from kdjax.run import lock
from kdjax.run.find import Found
from kdjax.run.group import distributed
from kdjax.run.preemption import PREEMPTED, Preemption
from kdjax.run.sweeps import handing, plan
from kdjax.run.sweeps.combinators import Sweep as Points
from kdjax.run.sweeps.outcomes import Outcome, Outcomes, worst
from kdjax.run.sweeps.plan import Plan, Trial, result
from kdjax.run.sweeps.standing import SWEEPS, standing
from kdjax.run.sweeps.trials import run_here


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Train arms of an experiment at many points of its configuration. Other options override it at every point.

    The same command goes on where it was interrupted, and runs again what failed.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar='NAME')]
    """The experiment: its name, family/name, or the path of its file."""
    over: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """FIELD=VALUE,VALUE: given several times, every combination is a point."""
    zip: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """FIELD=VALUE,VALUE FIELD=VALUE,VALUE: the first values together, then the second ones."""
    each: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """FIELD=VALUE,VALUE FIELD=VALUE,VALUE: one field at a time, the others as the experiment has them."""
    use: str = ''
    """FILE.py:NAME: a sweep written in Python (`kdjax.run.sweeps.combinators`), kept under NAME in its `sweeps`."""
    arm: tuple[str, ...] = ()
    """Which arms; default is the first that a claim puts forward."""
    seeds: int = 3
    """How many seeds each point gets. They are the same for all points."""
    first_seed: int = 0
    """The first seed of the students; shared stages (teachers) are made with seed 0."""
    split: Literal['validation', 'test'] = 'validation'
    """Where the shown metrics are taken. Values are chosen on validation; test is for looking, after the choice."""
    metric: str = ''
    """What the points are sorted by; default is the metric of the first claim."""
    on: str = 'local'
    """Where it runs: here, or slurm, tpu_vm, gke, skypilot: each trial is then handed to `python -m launch`."""
    launch: str = ''
    """Options for the launcher, in quotes: --launch='--yes --zone us-central2-b'."""
    again: bool = False
    """Hand over again what was handed over and has no result."""
    jobs: int = 1
    """How many trials run here at once."""
    out: pathlib.Path = SWEEPS
    """The folder of all sweeps; `kdjax report` shows those in runs/sweeps."""
    dry_run: bool = False
    """Print the plan, write and run nothing."""
    json: bool = False
    """Print where the sweep stands as JSON, and nothing else, on standard output."""


def sweep(arguments: list[str]) -> int:
    asked, found, config = with_overrides(Sweep, 'sweep', arguments)
    if distributed.ranks() > 1:
        raise UserError(f'a sweep is one process, here are {distributed.ranks()}: start it alone; --on moves trials')
    made = plan.make(_question(asked, found, config), asked.out)
    if asked.dry_run:
        show_plan(made, asked.out, functools.partial(_command, asked))
        return 0
    code = _carry_out(asked, made)
    _show(asked, made)
    return code


def _question(asked: Sweep, found: Found, config: Any) -> plan.Question:
    if asked.seeds < 1:
        raise UserError(f'--seeds {asked.seeds}: at least one is needed, and two for an interval')
    if asked.jobs < 1:
        raise UserError(f'--jobs {asked.jobs}: at least one trial has to run at a time')
    reader = Reader(config, found.name)
    points = read_sweep(reader, asked.over, asked.zip, asked.each, declared(asked.use))
    _refuse_fixed(points, found.experiment.config, config)
    claims = found.experiment.read_claims()
    metric = asked.metric or claims[0].metric
    signs = {claim.metric: claim.sign for claim in claims}
    more = signs[metric] == '>' if metric in signs else BETTER.get(base(metric)) != '↓'
    return plan.Question(
        found,
        asked.name if asked.name.endswith('.py') else found.name,
        config,
        points,
        asked.arm or (claims[0].left,),
        range(asked.first_seed, asked.first_seed + asked.seeds),
        metric,
        more,
    )


def _refuse_fixed(points: Points, before: Any, config: Any) -> None:
    old, new = plan.flat(before), plan.flat(config)
    for field in dict.fromkeys(f for point in points for f in point):
        if old[field] != new[field]:
            raise UserError(f'{field} is swept, and fixed to {new[field]}: leave out one of the two')


def _carry_out(asked: Sweep, made: Plan) -> int:
    """Run what is not done; the exit code."""
    with Preemption() as preemption, lock.hold(plan.save(made, asked.out)), progress(made.id) as (advance, say):
        preemption.hold()
        outcomes = Outcomes(asked.out / made.id)
        rest = [t for t in made.trials if result(t, asked.out) is None]
        say(f'{len(made.trials) - len(rest)} of {len(made.trials)} trials are done')
        codes: list[int] = []

        def ended(trial: Trial, outcome: Outcome) -> None:
            outcome = _with_result(trial, outcome, asked.out)
            codes.append(outcome.code)
            outcomes.note(trial, outcome)
            advance(len(made.trials) - len(rest) + len(codes), len(made.trials), _told(trial, outcome))

        if asked.on == 'local':
            run_here(rest, asked.out, jobs=asked.jobs, asked=preemption.asked, ended=ended)
        else:
            _hand_over(asked, [t for t in rest if not _is_out(asked, outcomes.of(t))], preemption.asked, ended)
        if preemption.asked():
            say('stopped; run the same command to go on')
            return PREEMPTED
        return worst(codes)


def _with_result(trial: Trial, outcome: Outcome, root: pathlib.Path) -> Outcome:
    """A trial that says it is done without leaving a result has failed."""
    if outcome.code or outcome.handed_over or result(trial, root) is not None:
        return outcome
    return Outcome(2, f'it ended well, but {root / trial.folder} holds no result of these settings')


def _told(trial: Trial, outcome: Outcome) -> str:
    point = ' '.join([trial.arm, *(f'{f}={v}' for f, v in trial.overrides.items()), f'seed {trial.seed}'])
    return f'{point}: {outcome.said} (exit code {outcome.code})' if outcome.code else point


def _is_out(asked: Sweep, last: Outcome | None) -> bool:
    return last is not None and last.handed_over and not asked.again


def _hand_over(
    asked: Sweep, trials: list[Trial], stop: Callable[[], bool], ended: Callable[[Trial, Outcome], None]
) -> None:
    """Trials one after another, until one is refused: the next would be too."""
    handing.check_launchers()
    options = handing.read_options(asked.launch)
    for number, trial in enumerate(trials):
        if stop():
            return
        outcome, words = handing.hand_over(trial, asked.on, options)
        if outcome is None:
            print(words.rstrip(), file=sys.stderr)
            continue
        ended(trial, outcome)
        if outcome.code:
            raise UserError(
                f'{asked.on} took {number} of {len(trials)} trials, then said: {outcome.said} (exit code '
                f'{outcome.code}); run the same command to go on'
            )


def _command(asked: Sweep, trial: Trial) -> list[str]:
    """The command line of a trial where the sweep runs."""
    if asked.on == 'local':
        return list(trial.command)
    return handing.launch_command(trial, asked.on, handing.read_options(asked.launch))


def _show(asked: Sweep, made: Plan) -> None:
    now = standing(made, asked.out, asked.split)
    if now.metrics and made.metric not in now.metrics:
        raise unknown('metric', made.metric, now.metrics)
    if asked.json:
        places = [dataclasses.asdict(place) for place in now.places]
        said = {'id': made.id, 'metric': made.metric, 'split': asked.split, 'places': places}
        sys.stdout.write(json.dumps(finite(said), indent=1) + '\n')
        return
    show_standing(now)
    best(now, asked.name)
    print(f'plan  {asked.out / made.id / plan.PLAN}')
