"""Quality against evaluations of the network, of all methods on one teacher, from the records of verifications.

    python benchmarks/frontier.py        # writes docs/images/frontier.svg, says what is in it and what is missing

A panel for each teacher of points of the ring, the one with most methods first; all are measured against one law by
KL(samples to data). Points are means over seeds, bars reach from the lowest to the highest. The line is the baseline:
samplers that are tuned and not trained.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
FAMILIES = ('trajectories', 'generators')
METRIC = 'kl_to_data'

LAW = ('dataset', 'tilt', 'evaluation_rows', 'bins', 'conditional')
"""Settings under which samples are compared with the same thing."""

TAUGHT = (
    'teacher', 'teacher_steps', 'teacher_learning_rate', 'batch', 'rows', 'weight_decay', 'sigma_min', 'sigma_max',
    'drop',
)  # fmt: skip
"""All that a trained teacher of such points depends on."""

MAIN = 'trajectories/few_steps'
"""The experiment whose law it is."""

EXACT = 'the exact score'
EXACTLY_TAUGHT = {
    'trajectories/boot': '*', 'trajectories/hyper_sd': '*', 'generators/f_distill': '*',
    'generators/em_distillation': '*', 'generators/sid': 'sid_exact',
}  # fmt: skip
"""Experiments whose arms, or one of them, learn from the exact score."""

EVALUATIONS = {
    'generators/dmd2': {'four_steps': 4, 'four_from_data': 4},
    'trajectories/instaflow': {'flow_0': 8, 'flow_1': 8, 'flow_2': 8},
}
"""Of students that are measured at more than one step under the plain name of a metric."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A method at a number of evaluations: its KL at every seed."""

    experiment: str
    arm: str
    evaluations: int
    values: tuple[float, ...]
    trained: bool

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def tuned(self) -> bool:
        return not self.trained and self.arm.startswith('tuned_')


def points(record: Mapping[str, Any]) -> Iterable[tuple[str, Point]]:
    """(teacher, point) of every arm at every number of evaluations; seeds without a number leave the point out."""
    name, config = record['experiment'], record['config']
    for arm, found in record['arms'].items():
        for metric, values in found['metrics'].items():
            base, _, steps = metric.rpartition('_')
            if metric == METRIC:
                count = EVALUATIONS.get(name, {}).get(arm, 1)
            elif base == METRIC and steps.isdigit():
                count = int(steps)
            else:
                continue
            if None in values:
                continue
            if 'nfe' in found['metrics']:
                count = round(found['metrics']['nfe'][0])
            exactly = EXACTLY_TAUGHT.get(name) in ('*', arm)
            teacher = EXACT if exactly else taught(config)
            yield teacher, Point(name, arm, count, tuple(values), trained='nfe' not in found['metrics'])


def taught(config: Mapping[str, Any]) -> str:
    """A trained teacher, in words."""
    said = f'{config["teacher"]}, {config["teacher_steps"]} steps of {config["batch"]}'
    others = {name: config[name] for name in TAUGHT if name not in ('teacher', 'teacher_steps', 'batch')}
    return f'{said} ({", ".join(f"{name} {value:g}" for name, value in others.items())})'


def gathered(
    records: Mapping[str, Mapping[str, Any]], names: Sequence[str]
) -> tuple[dict[str, list[Point]], dict[str, str]]:
    """Points by teacher, the teacher with most methods first, and why an experiment or an arm is not among them."""
    missing = {name: 'no record yet' for name in names if name not in records}
    measured = {name: r for name, r in records.items() if any(METRIC in a['metrics'] for a in r['arms'].values())}
    missing |= {name: f'does not measure {METRIC}' for name in records if name not in measured}
    main = measured.get(MAIN) or next(iter(measured.values()), None)
    found: dict[str, list[Point]] = {}
    for name, record in measured.items():
        other = [
            f'{key} {record["config"].get(key)}' for key in LAW if record['config'].get(key) != main['config'].get(key)
        ]
        if other:
            missing[name] = f'another law: {", ".join(other)}'
            continue
        for teacher, point in points(record):
            found.setdefault(teacher, []).append(point)
        missing |= {
            f'{name}: {arm}': f'diverged at {len(made["diverged"])} of {len(record["seeds"])} seeds'
            for arm, made in record['arms'].items()
            if made.get('diverged')
        }
    ordered = sorted(found, key=lambda teacher: (-len({(p.experiment, p.arm) for p in found[teacher]}), teacher))
    return {teacher: found[teacher] for teacher in ordered}, missing


def chart(found: Mapping[str, Sequence[Point]], path: pathlib.Path) -> None:
    """The picture, an SVG."""
    import matplotlib

    matplotlib.use('Agg')
    matplotlib.rcParams |= {'svg.hashsalt': 'kdjax', 'svg.fonttype': 'none'}
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(found), figsize=(1.5 + 4.5 * len(found), 5), squeeze=False, sharey=True, layout='constrained'
    )
    for (teacher, made), ax in zip(found.items(), axes[0], strict=True):
        tuned = sorted((p for p in made if p.tuned), key=lambda p: p.evaluations)
        ax.plot(
            [p.evaluations for p in tuned],
            [p.mean for p in tuned],
            color='0.4',
            lw=2,
            marker='s',
            label='tuned sampler',
        )
        others = [p for p in made if not p.trained and not p.tuned]
        ax.plot([p.evaluations for p in others], [p.mean for p in others], 'x', color='0.4', label='other samplers')
        by_method: dict[tuple[str, str], list[Point]] = {}
        for point in made:
            if point.trained:
                by_method.setdefault((point.experiment.partition('/')[2], point.arm), []).append(point)
        for i, ((experiment, arm), own) in enumerate(by_method.items()):
            own = sorted(own, key=lambda p: p.evaluations)
            reach = [[p.mean - min(p.values) for p in own], [max(p.values) - p.mean for p in own]]
            ax.errorbar(
                [p.evaluations for p in own], [p.mean for p in own], reach, color=f'C{i % 10}', capsize=2,
                marker='ov^D*P'[i // 10 % 6], ls=('-', '--', ':')[i // 10 % 3], lw=1, label=f'{experiment}: {arm}',
            )  # fmt: skip
        ax.set(xscale='log', yscale='log', xlabel='evaluations of the network', title=teacher.partition(' (')[0])
        counts = sorted({p.evaluations for p in made})
        ax.set_xticks(counts, map(str, counts))
        ax.minorticks_off()
        ax.legend(fontsize=6.5, loc='upper left', bbox_to_anchor=(0, -0.14), ncols=2, frameon=False)
    axes[0, 0].set_ylabel('KL(samples to data), nats')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={'Date': None})
    plt.close(figure)


def told(found: Mapping[str, Sequence[Point]], missing: Mapping[str, str]) -> Iterable[str]:
    """What is in the picture, the best first at every number of evaluations, and what is not."""
    for teacher, made in found.items():
        yield f'teacher: {teacher}'
        for point in sorted(made, key=lambda p: (p.evaluations, p.mean)):
            yield f'{point.evaluations:>6}  {point.mean:9.4f}  {point.experiment}: {point.arm}'
    yield from (f'left out: {name}, {why}' for name, why in sorted(missing.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--results', type=pathlib.Path, default=ROOT / 'results', help='folder of records')
    parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'docs' / 'images' / 'frontier.svg')
    options = parser.parse_args()
    records = [
        json.loads(path.read_text())
        for family in FAMILIES
        for path in sorted((options.results / family).glob('*.json'))
    ]
    names = [
        f'{family}/{path.stem}' for family in FAMILIES for path in sorted((ROOT / 'experiments' / family).glob('*.py'))
    ]
    found, missing = gathered({record['experiment']: record for record in records}, names)
    print('\n'.join(told(found, missing)))
    if found:
        chart(found, options.out)
        print(f'picture {options.out}')
    else:
        print(f"nothing to draw: verify an experiment first, '{MAIN.partition('/')[2]}' say")


if __name__ == '__main__':
    main()
