"""DMD2, SiD and sCM on MNIST to convergence: quality of one step against seconds of training, on one chart.

    python benchmarks/convergence.py --out FOLDER                       # writes convergence.json and convergence.svg
    python benchmarks/convergence.py --from RECORD.json --out FOLDER    # draws the chart again

5000 digits of 28x28 by class, a small U-Net in float32, a teacher trained once whose weights every student begins
with, everything on one device. Seconds are those of training alone, without compilation and without looks; rates are
constant and what is looked at is the running average of the weights. The rate of each method is the best of three, each
tried for a short time with another seed and measured on the validation split; those seconds are not on the chart.
Quality: the Frechet distance in the last features of a classifier that no generator trains on, and how often it sees
the class asked for. One seed, the test split. The record is written after every look, so that a run that is cut off
leaves what it had.

Ratios are the last Frechet distance of a student / that of the teacher with most evaluations.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import one_step
from timing import conclude

from kdjax.algorithms import Algorithm
from kdjax.data.batches import batch_indices
from kdjax.data.dataset import Source
from kdjax.metrics.frechet import frechet_distance
from kdjax.metrics.samples import asked_classes
from kdjax.run import identity
from kdjax.run.fit import predict
from kdjax.run.program import Program
from kdjax.tasks.digit_diffusion import DigitDiffusion

SEED, TRIED_WITH = 0, 500
FULL: dict[str, Any] = {
    'task': {
        'dataset': 'mnist5k', 'teacher': 'unet-32-64-p2', 'student': 'unet-32-64-p2', 'batch': 128, 'samples': 2000,
    },
    'chunk': 50, 'moments': 10, 'earliest': 1 / 32, 'seconds': 65.0, 'trial': 12.0, 'rates': (1e-4, 3e-4, 1e-3),
    'teacher': {'seconds': 55.0, 'rate': 1e-3, 'intervals': (18, 4, 2), 'decay': 0.999},
    'methods': {
        'dmd2': {'momentum': 0.9, 'moves': 5, 'gan': 0.03, 'head': 0.01, 'decay': 0.99},
        'sid': {'momentum': 0.0, 'moves': 5, 'alpha': 1.2, 'start_sigma': 5.0, 'decay': 0.99},
        'scm': {'warmup': 1000, 'mean': 0.7, 'deviation': 1.6, 'decay': 0.999},
    },
}  # fmt: skip
"""seconds: of training. moments: at which a training is looked at, in even ratios from the earliest part of its time to
the end. trial: seconds of each rate. intervals: of Heun's steps, of which n take 2 n - 1 evaluations."""

SMOKE: dict[str, Any] = FULL | {
    'task': {
        'dataset': 'digits', 'teacher': 'dit-8-1-p4-h2', 'student': 'dit-8-1-p4-h2', 'batch': 4, 'samples': 24,
        'judge': 'mlp-32-16', 'judge_steps': 20,
    },
    'chunk': 2, 'moments': 2, 'seconds': 0.02, 'trial': 0.01, 'rates': (1e-4, 1e-3),
    'teacher': FULL['teacher'] | {'seconds': 0.02, 'intervals': (2, 1)},
}  # fmt: skip

TITLES = {'dmd2': 'DMD2', 'sid': 'SiD', 'scm': 'sCM'}

COMPILING = 30.0
"""Seconds that are kept for compiling a method that has not begun, and for looking at it."""

Look = Callable[[Any], dict[str, float]]
Tell = Callable[[dict[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Training:
    """An algorithm on a split that is on the device, compiled for so many steps at once."""

    program: Program
    frozen: Any
    source: Source
    data: Any
    batch: int

    def fresh(self, seed: int, rate: float | None) -> Any:
        state = self.program.init(jax.random.key(seed), self.frozen, self.source.take(np.arange(self.batch)))
        return jax.block_until_ready(state if rate is None else one_step.at_rate(state, rate))

    def run(self, state: Any, first: int, seed: int) -> tuple[Any, bool]:
        """A chunk of steps, and whether all their numbers are finite."""
        steps = self.program.chunk
        rows = batch_indices(len(self.source), batch=self.batch, seed=seed, first_step=first, steps=steps)
        state, log = self.program.run(state, self.frozen, self.data, rows, jax.random.key(seed))
        return state, all(np.isfinite(values).all() for values in jax.device_get(log).values())

    def by_the_clock(
        self, seconds: float, moments: Sequence[float], *, rate: float, seed: int, look: Look, tell: Tell
    ) -> Any:
        """The state after so many seconds; `tell` hears what `look` finds after these parts of them.

        A number that is not finite ends it.
        """
        state, step, spent, due = self.fresh(seed, rate), 0, 0.0, list(moments)
        while True:
            if spent >= due[0] * seconds:
                due = [moment for moment in due if moment * seconds > spent]
                tell({'step': step, 'seconds': spent, **look(state)})
            if not due:
                return state
            start = time.perf_counter()
            state, finite = self.run(state, step, seed)
            spent, step = spent + time.perf_counter() - start, step + self.program.chunk
            if not finite:
                tell({'step': step, 'seconds': spent, 'diverged': True})
                return state


def compiled(algorithm: Algorithm, frozen: Any, source: Source, *, batch: int, chunk: int) -> Training:
    """The first steps, which compile, are those of a state that is thrown away."""
    made = Training(Program(algorithm, chunk=chunk), frozen, source, jax.device_put(source.arrays), batch)
    made.run(made.fresh(SEED, None), 0, SEED)
    return made


# What is measured.


def the_judge(task: DigitDiffusion) -> Any:
    """A classifier, trained on labels as its stage says."""
    stage = task.trained_judge.variables.stage
    made = compiled(stage.algorithm, {}, stage.data['train'], batch=stage.batch, chunk=stage.steps)
    return made.run(made.fresh(SEED, None), 0, SEED)[0]['variables']['student']


def seen(task: DigitDiffusion, judge: Any, source: Source) -> np.ndarray:
    """The judge's features of real images, of at most as many as are sampled."""
    images = task.scaled({'image': source.take(np.arange(min(len(source), task.samples)))['image']})
    model, key = task.trained_judge.model, jax.random.key(0)
    look = jax.jit(lambda variables, images: model.apply(variables, images, key=key, train=False)[0].taps['pooled'])
    return np.asarray(look(judge, images))


def looking(training: Training, task: DigitDiffusion, real: np.ndarray, split: str, seed: int) -> Look:
    """Of each kind of samples: `frechet_35` of those of 35 evaluations, `class_accuracy_35`, `class_nll_35`."""

    def look(state: Any) -> dict[str, float]:
        said, found = predict(training.program, state, training.frozen, task.data[split], seed=seed), {}
        for name in (name.removeprefix('logits_') for name in said if name.startswith('logits_')):
            features, logits = said[f'features_{name}'], said[f'logits_{name}']
            if np.isfinite(features).all():
                found[f'frechet_{name}'] = frechet_distance(real, features)
                found |= {f'{n}_{name}': value for n, value in asked_classes(logits, said['label']).items()}
        return found

    return look


def measured(setting: dict[str, Any], *, limit: float, keep: Tell) -> dict[str, Any]:
    """The record. `keep` is given it as it stands after every look. limit: of seconds; what is left is shared out."""
    begun, task = time.perf_counter(), DigitDiffusion(**setting['task'])
    judge = the_judge(task)
    real = {split: seen(task, judge, task.real[split]) for split in ('train', 'validation', 'test')}
    record: dict[str, Any] = {
        'name': 'convergence', 'device': identity.device(), 'versions': identity.versions(), 'ratios': {}, 'goals': {},
        'met': {}, 'seed': SEED, 'split': 'test', 'settings': setting, 'trials': {}, 'curves': {}, 'compiled_in': {},
        'training_images': frechet_distance(real['test'], real['train']),
    }  # fmt: skip

    def begin(name: str, algorithm: Algorithm, frozen: Any) -> tuple[Training, Callable[..., Look]]:
        start, sizes = time.perf_counter(), {'batch': task.batch, 'chunk': setting['chunk']}
        training = compiled(algorithm, frozen, task.real['train'], **sizes)
        record['compiled_in'][name] = round(time.perf_counter() - start, 1)
        print(f'{name}: compiled in {record["compiled_in"][name]} s', flush=True)
        return training, lambda split, seed: looking(training, task, real[split], split, seed)

    def tell(points: list[dict[str, Any]], name: str, found: dict[str, Any]) -> None:
        points.append({n: round(v, 5) if isinstance(v, float) else v for n, v in found.items()})
        said = (f'{n} {v:.3f}' for n, v in found.items() if n.startswith(('frechet', 'class_accuracy')))
        print(f'{name:<14} step {found["step"]:>6} {found["seconds"]:8.2f} s  {"  ".join(said)}', flush=True)
        record['ratios'] = ratios(record)
        keep(record)

    def curve(name: str, training: Training, look: Look, *, seconds: float, rate: float) -> Any:
        points = record['curves'][name] = []
        moments = [0.0, *np.geomspace(setting['earliest'], 1.0, setting['moments']).tolist()]
        told = functools.partial(tell, points, name)
        return training.by_the_clock(seconds, moments, rate=rate, seed=SEED, look=look, tell=told)

    def tried(name: str, training: Training, look: Look, *, seconds: float) -> float:
        """The rate with the least Frechet distance."""
        found = record['trials'][name] = {}
        for rate in setting['rates']:
            points: list[dict[str, Any]] = []
            told = functools.partial(tell, points, f'{name} at {rate:g}')
            training.by_the_clock(seconds, (1.0,), rate=rate, seed=TRIED_WITH, look=look, tell=told)
            found[f'{rate:g}'] = points[-1]
        return min(setting['rates'], key=lambda rate: found[f'{rate:g}'].get('frechet_1', math.inf))

    options, frozen = setting['teacher'], {'judge': judge}
    training, looks = begin('teacher', one_step.teacher(task, options), frozen)
    state = curve('teacher', training, looks('test', SEED), seconds=options['seconds'], rate=options['rate'])
    frozen |= dict.fromkeys(('teacher', 'start'), state['memory']['average'])
    for left, (name, options) in zip(range(len(setting['methods']), 0, -1), setting['methods'].items(), strict=True):
        training, looks = begin(name, one_step.METHODS[name](task, options), frozen)
        wanted = setting['seconds'] + len(setting['rates']) * setting['trial']
        rest = (limit - time.perf_counter() + begun - COMPILING * (left - 1)) / left
        share = min(1.0, max(rest, 0.0) / wanted)
        rate = tried(name, training, looks('validation', TRIED_WITH), seconds=share * setting['trial'])
        curve(name, training, looks('test', SEED), seconds=share * setting['seconds'], rate=rate)
    return record


def ratios(record: dict[str, Any]) -> dict[str, float]:
    """Of the last looks at which there was a number."""
    best, last = list(teacher_lines(record).values())[:1], {}
    for name, curve in record['curves'].items():
        found = [point['frechet_1'] for point in curve if 'frechet_1' in point]
        last |= {name: found[-1]} if found and name != 'teacher' else {}
    return {name: round(value / best[0], 4) for name, value in last.items() if best}


def teacher_lines(record: dict[str, Any]) -> dict[int, float]:
    """The last Frechet distance of the teacher by evaluations, the most first."""
    found = record['curves']['teacher'][-1] if 'teacher' in record['curves'] else {}
    lines = {int(name.removeprefix('frechet_')): v for name, v in found.items() if name.startswith('frechet_')}
    return dict(sorted(lines.items(), reverse=True))


def chart(record: dict[str, Any], path: pathlib.Path) -> None:
    """Frechet distance of each student against seconds, and the teacher's as lines."""
    import matplotlib

    matplotlib.use('Agg')
    matplotlib.rcParams |= {'svg.hashsalt': 'kdjax', 'svg.fonttype': 'none'}
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8, 5), layout='constrained')
    for marker, (name, title) in zip('ov^', TITLES.items(), strict=True):
        curve = record['curves'].get(name) or [{}]
        points = [point for point in curve[1:] if 'frechet_1' in point]
        x, y = ([point[field] for point in points] for field in ('seconds', 'frechet_1'))
        ax.plot(x, y, marker=marker, label=title + ', diverged' * curve[-1].get('diverged', False))
    for style, (count, value) in zip(('-', '--', ':'), teacher_lines(record).items(), strict=False):
        ax.axhline(value, color='0.4', ls=style, lw=1, label=f'teacher, {count} evaluations')
    ax.axhline(record['training_images'], color='0.7', ls='-.', lw=1, label='training images')
    ax.set(
        xscale='log', yscale='log', xlabel=f'seconds of training, {record["device"]}', ylabel='Frechet distance',
        title=f'{record["settings"]["task"]["dataset"]}: generators of one evaluation',
    )  # fmt: skip
    ax.legend(fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={'Date': None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=pathlib.Path, help='folder for the record (JSON) and the chart (SVG)')
    parser.add_argument('--from', dest='record', type=pathlib.Path, help='a record to draw, in place of a run')
    parser.add_argument('--limit', type=float, default=470.0, help='seconds for all but imports')
    parser.add_argument('--smoke', action='store_true', help='tiny sizes: it works, it measures nothing')
    options = parser.parse_args()

    def keep(record: dict[str, Any]) -> None:
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / 'convergence.json').write_text(json.dumps(record, indent=1) + '\n')

    if options.record is None:
        record = measured(SMOKE if options.smoke else FULL, limit=options.limit, keep=keep)
    else:
        record = json.loads(options.record.read_text())
    if options.out is not None:
        chart(record, options.out / 'convergence.svg')
    conclude('convergence', ratios=record['ratios'], goals={})


if __name__ == '__main__':
    main()
