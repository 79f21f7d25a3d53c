"""`kdjax run`: train one arm into a run folder."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Annotated, Any, Literal

import tyro

from kdjax.cli.machine import Machine
from kdjax.cli.parsing import with_overrides
from kdjax.cli.progress import Advance, progress
from kdjax.errors import UserError, unknown
from kdjax.report.run_figures import draw
from kdjax.run import identity, lock
from kdjax.run.checkpoints import Checkpoints, Policy
from kdjax.run.find import Found
from kdjax.run.folder import Folder
from kdjax.run.group import distributed, preflight
from kdjax.run.preemption import Preemption
from kdjax.run.session import ROLLBACKS, Session, check_resume
from kdjax.run.skipping import skipping
from kdjax.run.stages import Executor, machine
from kdjax.run.store import Store
from kdjax.run.watchdog import Watchdog
from kdjax.run.writers import tracker
from kdjax.stage import Train


@dataclasses.dataclass(frozen=True)
class Run(Machine):
    """Train one arm of an experiment. Anything else that is given overrides the experiment's configuration."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar='NAME')]
    """The experiment: its name, family/name, or the path of its file."""
    arm: str = ''
    """Which arm; default is the first that a claim puts forward."""
    seed: int = 0
    """The seed of the student; shared stages (teachers) are made with seed 0."""
    out: pathlib.Path | None = None
    """The run folder; default is runs/FAMILY/NAME/ARM/SEED."""
    resume: str = 'auto'
    """auto: from the newest whole checkpoint in the run folder. STEP: from that one; later ones go. never: from the
    start, in a folder without checkpoints."""
    save_every: int = 0
    """Steps between checkpoints; 0 saves by the clock and at the end."""
    save_seconds: float = 600.0
    """Seconds between checkpoints; 0 saves by steps alone."""
    keep: int = 2
    """How many checkpoints are kept."""
    keep_every: int = 0
    """Checkpoints at multiples of so many steps are made as well, and kept for good; 0 for none."""
    save_in_background: bool = True
    """Train on while a checkpoint is written."""
    on_nan: Literal['halt', 'skip', 'rollback'] = 'halt'
    """When a number is not finite. halt: stop. skip: leave the state as it was, ten times in a row at most. rollback:
    go on from the last checkpoint with the data in another order, three times at most."""
    hang_seconds: float = 0.0
    """Seconds without progress (compiling and evaluating included) after which all stacks are written and the run ends
    with exit code 70; 0 for never."""
    log_every: int = 50
    """Steps between rows of metrics.jsonl."""
    track: tuple[str, ...] = ()
    """Trackers that mirror the metrics: tensorboard, wandb, trackio, mlflow."""

    def policy(self) -> Policy:
        return Policy(self.save_every, self.save_seconds, self.keep, self.keep_every)


def run(arguments: list[str]) -> int:
    asked, found, config = with_overrides(Run, 'run', arguments)
    check_resume(asked.resume)
    asked.policy()
    arm, stage = _arm(asked, found, config)
    path = asked.out or pathlib.Path('runs') / found.name / arm / str(asked.seed)
    preflight.check(path, preflight.file_digest(found.path))
    with Preemption() as preemption, lock.hold(path), Watchdog(asked.hang_seconds, path) as watchdog:
        executor = Executor(Store(), module=found.module.__name__, layout=asked.layout(), execution=asked.execution())
        folder = _folder(path, asked.seed, found, arm, config, stage, machine(executor.layout, executor.execution))
        with progress(f'{found.name} {arm}') as (advance, executor.say):
            session = _session(asked, folder, stage, preemption, watchdog, executor.say)
            info = _train(asked, stage, executor, session, advance)
        folder.finish(info)
    if distributed.is_writer():
        _tell(folder.path, info)
    return 0


def _arm(asked: Run, found: Found, config: Any) -> tuple[str, Train]:
    arms = found.experiment.resolve(config)
    arm = asked.arm or found.experiment.read_claims()[0].left
    if arm not in arms:
        raise unknown(f"arm of '{found.name}'", arm, arms)
    stage = arms[arm].stage
    if not isinstance(stage, Train):
        raise UserError(f"arm '{arm}' of '{found.name}' is computed, not trained: use 'kdjax verify {found.name}'")
    return arm, stage


def _session(
    asked: Run, folder: Folder, stage: Train, preemption: Preemption, watchdog: Watchdog, say: Callable[[str], None]
) -> Session:
    """What lasts from process to process; whatever goes wrong with it is told, and noted in the folder."""

    def report(line: str) -> None:
        say(line)
        folder.note('warning', line)

    checkpoints = Checkpoints(
        folder.path / 'checkpoints', policy=asked.policy(), asynchronous=asked.save_in_background, report=report
    )
    return Session(
        folder,
        checkpoints,
        steps=stage.steps,
        resume=asked.resume,
        preemption=preemption,
        watchdog=watchdog,
        trackers=[tracker(kind, folder.path, folder.config) for kind in _tracked(asked)],
        say=say,
    )


def _train(asked: Run, stage: Train, executor: Executor, session: Session, advance: Advance) -> dict[str, Any]:
    """The facts of the finished run."""

    def on_row(step: int, row: dict[str, float]) -> None:
        advance(step, stage.steps, f'loss {row["student/loss"]:.4f}' if 'student/loss' in row else '')

    rollbacks = ROLLBACKS if asked.on_nan == 'rollback' else 0
    events = session.events(log_every=asked.log_every, on_row=on_row, rollbacks=rollbacks)
    try:
        if not executor.go_on(stage, asked.seed, session.folder.made_of) and session.checkpoints.steps():
            root = executor.store.root
            session.checkpoints.report(f'what the run began with is not in the store {root}: it is made again, here')
        guarded = _guarded(stage, asked.on_nan)
        _, _, info = executor.train(guarded, asked.seed, events=events, resume=session.resume)
    finally:
        session.close()
    return info


def _tell(path: pathlib.Path, info: dict[str, Any]) -> None:
    draw(path, info['curves'])
    for name, value in info['metrics']['test'].items():
        print(f'{name:20} {value:.4f}')
    print(f'{path} {info["state_sha256"]}')


def _tracked(asked: Run) -> tuple[str, ...]:
    return asked.track if distributed.is_writer() else ()


def _guarded(stage: Train, on_nan: str) -> Train:
    return dataclasses.replace(stage, algorithm=skipping(stage.algorithm)) if on_nan == 'skip' else stage


def _folder(
    path: pathlib.Path, seed: int, found: Found, arm: str, config: Any, stage: Train, made_on: dict[str, Any]
) -> Folder:
    settings = {'experiment': found.name, 'arm': arm, 'seed': seed, **dataclasses.asdict(config)}
    made_of = {
        'code': identity.code(found.module.__name__),
        'data': stage.data.identity,
        'versions': identity.versions(),
        **made_on,
    }
    return Folder(path, config=settings, made_of=made_of, may_differ=tuple(made_on))
