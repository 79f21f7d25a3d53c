"""`kdjax run`: train one arm into a run folder."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated, Any

import tyro

from kdjax.algorithms.algorithm import State
from kdjax.cli.parsing import with_overrides
from kdjax.cli.progress import progress
from kdjax.errors import unknown
from kdjax.report.run_figures import draw
from kdjax.run import identity
from kdjax.run.find import Found
from kdjax.run.fit import Events
from kdjax.run.folder import Folder
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.run.writers import Jsonl, Writer, tracker


@dataclasses.dataclass(frozen=True)
class Run:
    """Train one arm of an experiment. Anything else that is given overrides the experiment's configuration."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar='NAME')]
    """The experiment: its name, family/name, or the path of its file."""
    arm: str = ''
    """Which arm; default is the first that a claim puts forward."""
    seed: int = 0
    """The seed of the student; shared stages (teachers) are made with seed 0."""
    out: pathlib.Path | None = None
    """The run folder; default is runs/FAMILY/NAME/ARM/SEED."""
    save_every: int = 0
    """Steps between checkpoints; 0 saves at the end only."""
    log_every: int = 50
    """Steps between rows of metrics.jsonl."""
    track: tuple[str, ...] = ()
    """Trackers that mirror the metrics: tensorboard, wandb, trackio, mlflow."""


def run(arguments: list[str]) -> int:
    asked, found, config = with_overrides(Run, 'run', arguments)
    arms = found.experiment.resolve(config)
    arm = asked.arm or found.experiment.read_claims()[0].left
    if arm not in arms:
        raise unknown(f"arm of '{found.name}'", arm, arms)
    stage = arms[arm].stage
    folder = _folder(asked, found, arm, config, stage)
    with progress(f'{found.name} {arm}') as (advance, say):
        executor = Executor(Store(), module=found.module.__name__, say=say)
        writers: list[Writer] = [tracker(kind, folder.path, dataclasses.asdict(config)) for kind in asked.track]

        def resume(fresh: State) -> State | None:
            state = folder.latest(fresh)
            folder.forget_after(0 if state is None else int(state['step']))
            writers.append(Jsonl(folder.path / 'metrics.jsonl'))
            return state

        def log(step: int, row: dict[str, float]) -> None:
            for writer in writers:
                writer.write(step, row)
            advance(step, stage.steps, f'loss {row["student/loss"]:.4f}' if 'student/loss' in row else '')

        events = Events(
            log_every=asked.log_every, on_log=log, save_every=asked.save_every or stage.steps, on_save=folder.save
        )
        try:
            state, _, info = executor.train(stage, asked.seed, events=events, resume=resume)
        finally:
            for writer in writers:
                writer.close()
    final = folder.finish(state, info)
    draw(folder.path, info['curves'])
    for name, value in info['metrics']['test'].items():
        print(f'{name:20} {value:.4f}')
    print(f'{folder.path} {final}')
    return 0


def _folder(asked: Run, found: Found, arm: str, config: Any, stage: Any) -> Folder:
    path = asked.out or pathlib.Path('runs') / found.name / arm / str(asked.seed)
    settings = {'experiment': found.name, 'arm': arm, 'seed': asked.seed, **dataclasses.asdict(config)}
    made_of = {
        'code': identity.code(found.module.__name__),
        'data': stage.data.identity,
        'versions': identity.versions(),
        'device': identity.device(),
    }
    return Folder(path, config=settings, made_of=made_of)
