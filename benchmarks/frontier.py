"""Quality against evaluations of the network, of all methods on one teacher, from the records of verifications.

    python benchmarks/frontier.py        # writes docs/images/frontier.svg, says what is in it and what is missing

A panel for points, whose law is known exactly, and one for images; in each, every student learned from one teacher.
Points are means over seeds, bars reach from the lowest to the highest; of a method that diverged at some seeds the
others are drawn, and it is said. The grey line is the baseline: samplers of that teacher, on points tuned for each
number of evaluations. The students of `rcm` learned from the teacher under guidance, all others without.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Panel:
    """Records of one teacher, the metric that they share, and how it is called."""

    title: str
    metric: str
    label: str
    records: tuple[str, ...]


PANELS = (
    Panel('points of a ring of eight modes', 'kl_to_data', 'KL(samples to data), nats', ('trajectories/few_steps',)),
    Panel(
        'digits of 8x8 by class', 'frechet', 'Frechet distance in the features of a judge',
        ('generators/dmd2_digits', 'trajectories/sana_sprint', 'trajectories/rcm'),
    ),
)  # fmt: skip

TAUGHT = (
    'dataset', 'teacher', 'teacher_steps', 'teacher_learning_rate', 'batch', 'weight_decay', 'sigma_min', 'sigma_max',
    'drop', 'conditional',
)  # fmt: skip
"""All that a trained teacher depends on."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A method at a number of evaluations: its metric at every seed."""

    method: str
    evaluations: int
    values: tuple[float, ...]
    trained: bool

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)


def points(record: Mapping[str, Any], metric: str) -> Iterable[Point]:
    """Of every arm at every number of evaluations, of the seeds at which it did not diverge."""
    for arm, found in record['arms'].items():
        method, lost = f'{record["experiment"]}: {arm}', len(found.get('diverged', {}))
        told = f'{method} ({lost} of {len(record["seeds"])} seeds diverged)' if lost else method
        for name, values in found['metrics'].items():
            base, _, steps = name.rpartition('_')
            known = tuple(value for value in values if value is not None)
            if name == metric:
                count = round(found['metrics'].get('nfe', [1])[0])
            elif base == metric and steps.isdigit():
                count = int(steps)
            else:
                continue
            if known:
                yield Point(told, count, known, trained='nfe' not in found['metrics'])


def gathered(records: Mapping[str, Mapping[str, Any]], panel: Panel) -> tuple[list[Point], list[str]]:
    """Points of a panel, and what is missing from it, with the reason.

    The teacher is that of the panel's first record.
    """
    found: list[Point] = []
    missing = [f'{name}, no record yet' for name in panel.records if name not in records]
    known = [records[name] for name in panel.records if name in records]
    for record in known:
        config, first = record['config'], known[0]['config']
        if other := [f'{name} {config.get(name)}' for name in TAUGHT if config.get(name) != first.get(name)]:
            missing.append(f'{record["experiment"]}, another teacher: {", ".join(other)}')
            continue
        found.extend(points(record, panel.metric))
    return found, missing


def draw(ax: Any, panel: Panel, made: Sequence[Point], name: Any) -> None:
    """One panel; name: what a method is called."""
    samplers = sorted((p for p in made if not p.trained), key=lambda p: p.evaluations)
    ax.plot(
        [p.evaluations for p in samplers], [p.mean for p in samplers], color='0.4', lw=2, marker='s',
        label='the teacher, sampled',
    )  # fmt: skip
    methods = dict.fromkeys(p.method for p in made if p.trained)
    for i, method in enumerate(methods):
        own = sorted((p for p in made if p.method == method), key=lambda p: p.evaluations)
        reach = [[p.mean - min(p.values) for p in own], [max(p.values) - p.mean for p in own]]
        ax.errorbar(
            [p.evaluations for p in own], [p.mean for p in own], reach, color=f'C{i % 10}', capsize=2,
            marker='ov^D*P'[i // 10 % 6], ls=('-', '--', ':')[i // 10 % 3], lw=1, label=name(method),
        )  # fmt: skip
    counts = sorted({p.evaluations for p in made})
    ax.set(xscale='log', yscale='log', xlabel='evaluations of the network', ylabel=panel.label, title=panel.title)
    ax.set_xticks(counts, map(str, counts))
    ax.minorticks_off()
    ax.legend(fontsize=7, loc='upper left', bbox_to_anchor=(0, -0.12), ncols=2, frameon=False)


def chart(found: Mapping[Panel, Sequence[Point]], path: pathlib.Path) -> None:
    """The picture, an SVG."""
    import matplotlib

    matplotlib.use('Agg')
    matplotlib.rcParams |= {'svg.hashsalt': 'kdjax', 'svg.fonttype': 'none'}
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(found), figsize=(1.5 + 5.5 * len(found), 6.5), squeeze=False, layout='constrained'
    )
    for (panel, made), ax in zip(found.items(), axes[0], strict=True):
        alone = len({p.method.partition(':')[0] for p in made}) == 1
        draw(ax, panel, made, lambda method, alone=alone: method.rpartition(': ' if alone else '/')[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={'Date': None})
    plt.close(figure)


def told(panel: Panel, made: Sequence[Point], missing: Sequence[str]) -> Iterable[str]:
    """What is in a panel, the best first at every number of evaluations, and what is not."""
    yield f'{panel.title}, {panel.label}'
    for point in sorted(made, key=lambda p: (p.evaluations, p.mean)):
        yield f'{point.evaluations:>6}  {point.mean:9.4f}  {point.method}'
    yield from (f'left out: {why}' for why in missing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--results', type=pathlib.Path, default=ROOT / 'results', help='folder of records')
    parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'docs' / 'images' / 'frontier.svg')
    options = parser.parse_args()
    paths = {name: options.results / f'{name}.json' for panel in PANELS for name in panel.records}
    records = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    found: dict[Panel, Sequence[Point]] = {}
    for panel in PANELS:
        made, missing = gathered(records, panel)
        print('\n'.join(told(panel, made, missing)))
        found |= {panel: made} if made else {}
    if found:
        chart(found, options.out)
        print(f'picture {options.out}')
    else:
        print(f"nothing to draw: verify an experiment first, '{PANELS[0].records[0].partition('/')[2]}' say")


if __name__ == '__main__':
    main()
