"""DMD2, SiD and sCM on MNIST to convergence: quality of one step against seconds of training, on one chart.

    python benchmarks/convergence.py --out FOLDER        # trains; writes convergence.json and convergence.svg
    python benchmarks/convergence.py --from RECORD.json --out FOLDER        # draws the chart again

5000 digits of 28x28 by class, a small U-Net in float32, a teacher trained once whose weights every student begins
with, everything on one device. Seconds are those of training alone, without compilation and without evaluation; all
rates are constant and what is measured is the running average of the weights. Quality: the Frechet distance in the last
features of a classifier that nobody trains on, and how often it sees the class asked for, of samples for one held-out
split. One seed. The record is written after every look, so that a run that is cut off leaves what it had.
Ratios are the last Frechet distance of a student / that of the teacher with most evaluations.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Mapping
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

FULL: dict[str, Any] = {
    'task': {
        'dataset': 'mnist5k', 'teacher': 'unet-32-64-p2', 'student': 'unet-32-64-p2', 'batch': 128, 'samples': 2000,
        'judge_steps': 600,
    },
    'chunk': 50, 'moments': 10, 'earliest': 1 / 32, 'intervals': (18, 4, 2),
    'teacher': {'seconds': 75.0, 'rate': 1e-3, 'decay': 0.999},
    'methods': {
        'dmd2': {
            'seconds': 95.0, 'rate': 5e-4, 'momentum': 0.9, 'moves': 5, 'gan': 0.03, 'head': 0.01, 'decay': 0.99,
        },
        'sid': {'seconds': 95.0, 'rate': 5e-4, 'momentum': 0.0, 'moves': 5, 'alpha': 1.2, 'start_sigma': 2.5,
                'decay': 0.99},
        'scm': {'seconds': 95.0, 'rate': 1e-4, 'warmup': 1000, 'mean': 0.0, 'deviation': 1.6, 'decay': 0.999},
    },
}  # fmt: skip
"""seconds: of training, at most. moments: of a training at which it is looked at, in even ratios from the earliest part
of it to its end. intervals: of the teacher's samplers, of 2 n - 1 evaluations each."""

TITLES = {'dmd2': 'DMD2', 'sid': 'SiD', 'scm': 'sCM'}

COMPILING = 40.0
"""Seconds that are kept for the compilation and the looks of a training that has not begun."""

Look = Callable[[Program, Any], dict[str, float]]
Tell = Callable[[dict[str, Any]], None]


def smoke(setting: dict[str, Any]) -> dict[str, Any]:
    """The same with networks that learn nothing."""
    tiny = {'dataset': 'digits', 'teacher': 'dit-8-1-p4-h2', 'student': 'dit-8-1-p4-h2', 'batch': 4, 'samples': 24}
    methods = {name: options | {'seconds': 0.02, 'moves': 1} for name, options in setting['methods'].items()}
    return setting | {
        'task': setting['task'] | tiny | {'judge': 'mlp-32-16', 'judge_steps': 20}, 'chunk': 2, 'moments': 2,
        'intervals': (2, 1), 'teacher': setting['teacher'] | {'seconds': 0.02}, 'methods': methods,
    }  # fmt: skip


# Training by the clock.


@dataclasses.dataclass(frozen=True)
class Pace:
    """How an algorithm is trained: on batches of this size, `chunk` steps to a call, looked at after parts of the time."""

    batch: int
    chunk: int
    moments: tuple[float, ...]
    seed: int

    def rows(self, source: Source, first: int, steps: int | None = None) -> np.ndarray:
        return batch_indices(
            len(source), batch=self.batch, seed=self.seed, first_step=first, steps=steps or self.chunk
        )

    def train(
        self, algorithm: Algorithm, frozen: Any, source: Source, *, seconds: float, look: Look, tell: Tell
    ) -> dict[str, Any]:
        """The state after so many seconds. `tell` hears what `look` finds at the start and at every moment.

        The first steps, which compile, are taken from a state that is thrown away. A number that is not finite ends it.
        """
        program, key, begun = Program(algorithm, chunk=self.chunk), jax.random.key(self.seed), time.perf_counter()
        data, example = jax.device_put(source.arrays), source.take(np.arange(self.batch))

        def run(state: Any, first: int) -> tuple[Any, bool]:
            state, log = program.run(state, frozen, data, self.rows(source, first), key)
            return state, all(np.isfinite(values).all() for values in jax.device_get(log).values())

        jax.block_until_ready(run(program.init(key, frozen, example), 0)[0])
        state, step, spent, due = program.init(key, frozen, example), 0, 0.0, self.moments
        found = look(program, state)
        tell({'step': 0, 'seconds': 0.0, 'begun_after': round(time.perf_counter() - begun, 1), **found})
        while due:
            start = time.perf_counter()
            state, finite = run(state, step)
            spent, step = spent + time.perf_counter() - start, step + self.chunk
            if not finite:
                tell({'step': step, 'seconds': spent, 'diverged': True})
                break
            if spent >= due[0] * seconds:
                due = tuple(moment for moment in due if moment * seconds > spent)
                tell({'step': step, 'seconds': spent, **look(program, state)})
        return state


def the_judge(task: DigitDiffusion, seed: int) -> Any:
    """A classifier, trained on labels as its stage says."""
    stage = task.trained_judge.variables.stage
    source, key, pace = stage.data['train'], jax.random.key(seed), Pace(stage.batch, stage.steps, (), seed)
    program, rows = Program(stage.algorithm, chunk=stage.steps), pace.rows(source, 0)
    state = program.init(key, {}, source.take(rows[0]))
    state, _ = program.run(state, {}, jax.device_put(source.arrays), rows, key)
    return state['variables']['student']


def seen(task: DigitDiffusion, variables: Any, source: Source) -> np.ndarray:
    """The judge's features of real images, of at most as many as are sampled."""
    images = task.scaled({'image': source.take(np.arange(min(len(source), task.samples)))['image']})
    model, key = task.trained_judge.model, jax.random.key(0)
    look = jax.jit(lambda variables, images: model.apply(variables, images, key=key, train=False)[0].taps['pooled'])
    return np.asarray(look(variables, images))


def looking(task: DigitDiffusion, frozen: Any, real: np.ndarray, split: str, seed: int) -> Look:
    """Frechet distance and class accuracy of each kind of samples, `frechet_35` being of 35 evaluations."""

    def look(program: Program, state: Any) -> dict[str, float]:
        said, found = predict(program, state, frozen, task.data[split], seed=seed), {}
        for name in (name.removeprefix('logits_') for name in said if name.startswith('logits_')):
            features = said[f'features_{name}']
            if np.isfinite(features).all():
                found[f'frechet_{name}'] = frechet_distance(real, features)
                found |= {f'{n}_{name}': v for n, v in asked_classes(said[f'logits_{name}'], said['label']).items()}
        return found

    return look


# All of it.


def measured(setting: dict[str, Any], *, split: str, seed: int, limit: float, keep: Tell) -> dict[str, Any]:
    """The record; `keep` is given it as far as it goes after every look. limit: seconds for all."""
    begun, task = time.perf_counter(), DigitDiffusion(**setting['task'])
    moments = tuple(np.geomspace(setting['earliest'], 1.0, setting['moments']).tolist())
    pace, variables = Pace(task.batch, setting['chunk'], moments, seed), the_judge(task, seed)
    frozen = {'judge': variables}
    real, train = (seen(task, variables, task.real[of]) for of in (split, 'train'))
    record: dict[str, Any] = {
        'name': 'convergence', 'device': identity.device(), 'versions': identity.versions(), 'ratios': {}, 'goals': {},
        'met': {}, 'settings': setting, 'split': split, 'seed': seed, 'curves': {},
        'training_images': {'count': len(train), 'frechet': frechet_distance(real, train)},
    }  # fmt: skip

    def train_one(name: str, algorithm: Algorithm, seconds: float) -> dict[str, Any]:
        curve = record['curves'][name] = []

        def tell(found: dict[str, Any]) -> None:
            curve.append({n: v if n in ('step', 'diverged') else round(v, 5) for n, v in found.items()})
            said = '  '.join(f'{n} {v:.3f}' for n, v in found.items() if n.startswith(('frechet', 'class_acc')))
            print(f'{name:<8} step {found["step"]:>6} {found["seconds"]:8.2f} s  {said}', flush=True)
            record['ratios'] = ratios(record)
            keep(record)

        look = looking(task, frozen, real, split, seed)
        return pace.train(algorithm, frozen, task.real['train'], seconds=seconds, look=look, tell=tell)

    options, methods = setting['teacher'], setting['methods']
    state = train_one('teacher', one_step.teacher(task, setting['intervals'], options), options['seconds'])
    frozen |= dict.fromkeys(('teacher', 'start'), state['memory']['average'])
    for left, (name, options) in zip(range(len(methods), 0, -1), methods.items(), strict=True):
        rest = (limit - (time.perf_counter() - begun)) / left - COMPILING
        if rest <= 0:
            print(f'{name}: left out, no time is left', flush=True)
            continue
        train_one(name, one_step.METHODS[name](task, options), min(rest, options['seconds']))
    return record


def ratios(record: dict[str, Any]) -> dict[str, float]:
    """Of the last looks at which there was a number."""
    best, last = list(teacher_lines(record).values())[:1], {}
    for name, curve in record['curves'].items():
        found = [point['frechet_1'] for point in curve if 'frechet_1' in point]
        last |= {name: found[-1]} if found and name != 'teacher' else {}
    return {name: round(value / best[0], 4) for name, value in last.items()}


def teacher_lines(record: dict[str, Any]) -> dict[int, float]:
    """The last Frechet distance of the teacher by evaluations, the most first."""
    found = record['curves'].get('teacher', [{}])[-1]
    lines = {int(name.removeprefix('frechet_')): v for name, v in found.items() if name.startswith('frechet_')}
    return dict(sorted(lines.items(), reverse=True))


def chart(record: dict[str, Any], path: pathlib.Path) -> None:
    """Frechet distance of each student against seconds, and the teacher's as lines."""
    import matplotlib

    matplotlib.use('Agg')
    matplotlib.rcParams |= {'svg.hashsalt': 'kdjax', 'svg.fonttype': 'none'}
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8, 5), layout='constrained')
    for i, (name, curve) in enumerate((n, c) for n, c in record['curves'].items() if n != 'teacher'):
        points = [(point['seconds'], point['frechet_1']) for point in curve[1:] if 'frechet_1' in point]
        ended = ', diverged' if curve[-1].get('diverged') else ''
        ax.plot(*zip(*points, strict=True) if points else ((), ()), f'C{i}', marker='ov^D'[i % 4], label=TITLES[name] + ended)
    for style, (count, value) in zip(('-', '--', ':'), teacher_lines(record).items(), strict=False):
        ax.axhline(value, color='0.4', ls=style, lw=1, label=f'teacher, {count} evaluations')
    ax.axhline(record['training_images']['frechet'], color='0.7', ls='-.', lw=1, label='training images')
    data, device = record['settings']['task']['dataset'], record['device']
    ax.set(
        xscale='log', yscale='log', xlabel=f'seconds of training on {device}', ylabel='Frechet distance',
        title=f'{data}: students of one evaluation',
    )  # fmt: skip
    ax.legend(fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={'Date': None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=pathlib.Path, help='folder for the record (JSON) and the chart (SVG)')
    parser.add_argument('--from', dest='record', type=pathlib.Path, help='a record to draw, in place of a run')
    parser.add_argument('--split', default='test', choices=('validation', 'test'), help='whose images are compared with')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--limit', type=float, default=510.0, help='seconds for all: what is left is shared evenly')
    parser.add_argument('--smoke', action='store_true', help='tiny sizes: it works, it measures nothing')
    options = parser.parse_args()

    def keep(record: dict[str, Any]) -> None:
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / 'convergence.json').write_text(json.dumps(record, indent=1) + '\n')

    if options.record is None:
        setting = smoke(FULL) if options.smoke else FULL
        record = measured(setting, split=options.split, seed=options.seed, limit=options.limit, keep=keep)
    else:
        record = json.loads(options.record.read_text())
    if options.out is not None:
        chart(record, options.out / 'convergence.svg')
    conclude('convergence', ratios=record['ratios'], goals={})


if __name__ == '__main__':
    main()
