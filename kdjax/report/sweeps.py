"""The page of a sweep: its points, the best first, and the metric against every swept field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kdjax.report import figures, numbers
from kdjax.report.layout import page, section
from kdjax.report.markup import Content, Safe, join, link, table, tag
from kdjax.run.sweeps.standing import Place, Standing, said

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WHERE = {
    'validation': 'Metrics of the validation split, on which values are chosen. The verdict on the chosen ones is for '
    'the test split and for kdjax verify.',
    'test': 'Metrics of the TEST split: to look at after the choice, never to choose by.',
}
LOGARITHMIC = 8.0
"""From this ratio between largest and smallest on, positive values stand on a logarithmic axis."""


def path(sweep: Standing) -> str:
    """The page's file, relative to the site."""
    return f'sweeps/{sweep.plan.id}.html'


def listing(sweeps: Sequence[Standing]) -> Safe | None:
    """The part of the first page that leads to the sweeps; None where there are none."""
    if not sweeps:
        return None
    rows = [tag('li', link(_title(s), path(s)), tag('code', f'{s.plan.id} · {_progress(s)}')) for s in sweeps]
    return section('Sweeps', tag('ul', rows, class_='waiting'), key='sweeps')


def sweep_page(sweep: Standing) -> Safe:
    """Everything that is known of a sweep, finished or not."""
    plan = sweep.plan
    facts = join(plan.experiment, f'{sweep.split} split', _progress(sweep), between=' · ')
    return page(
        _title(sweep),
        tag('p', facts, class_='facts'),
        tag('h1', _title(sweep)),
        _fixed(plan.fixed),
        _points(sweep),
        _figures(sweep),
        _open(sweep),
        root='../',
    )


def _title(sweep: Standing) -> str:
    return f'{sweep.plan.title}: {", ".join(sweep.plan.fields) or "seeds"}'


def _progress(sweep: Standing) -> str:
    return f'{sweep.done} of {numbers.counted(len(sweep.plan.trials), "trial")} done'


def _fixed(fixed: dict[str, Any]) -> Safe | None:
    values = [tag('code', f'{field}={said(value)}') for field, value in fixed.items()]
    return tag('p', 'Fixed at every point: ', join(values, between=', '), class_='facts') if values else None


def _points(sweep: Standing) -> Safe:
    plan = sweep.plan
    metrics = sweep.shown
    header = ['arm', *plan.fields, *(f'{numbers.label(m)} {_arrow(sweep, m)}'.strip() for m in metrics), 'seeds']
    rows = [_row(place, plan.fields, metrics) for place in sweep.places]
    note = (
        f'{WHERE[sweep.split]} Sorted by {numbers.label(plan.metric)}; mean over the seeds that are done ± half of its '
        '95 % interval. Points without all of their seeds stand behind. The first of many is the best partly by luck.'
    )
    return section('Points', table(header, rows), note=note, key='points')


def _arrow(sweep: Standing, metric: str) -> str:
    if metric == sweep.plan.metric:
        return '↑' if sweep.plan.more else '↓'
    return numbers.BETTER.get(numbers.base(metric), '')


def _row(place: Place, fields: Sequence[str], metrics: Sequence[str]) -> list[Content]:
    found = [numbers.summary(m, place.metrics.get(m, [])) for m in metrics]
    return [place.arm, *(said(place.values[f]) for f in fields), *found, f'{place.done}/{len(place.seeds)}']


def _open(sweep: Standing) -> Safe | None:
    """Trials that began and are not done, and why; those that wait are only counted."""
    waiting = sum(place.states.count('waiting') for place in sweep.places)
    rows = [
        [place.arm, *(said(place.values[f]) for f in sweep.plan.fields), f'{seed}', state]
        for place in sweep.places
        for seed, state in zip(place.seeds, place.states, strict=True)
        if state not in ('done', 'waiting')
    ]
    if not rows and not waiting:
        return None
    shown = table(['arm', *sweep.plan.fields, 'seed', 'state'], rows) if rows else None
    note = f'{numbers.counted(waiting, "trial")} waiting.' if waiting else None
    return section('Not done', shown, note=note, key='open')


def _figures(sweep: Standing) -> Safe | None:
    arms = list(dict.fromkeys(place.arm for place in sweep.places))
    shown = [place for place in sweep.places if math.isfinite(place.mean(sweep.plan.metric))]
    if not shown or not sweep.plan.fields:
        return None
    legend = tag('ul', [tag('li', figures.swatch(i), arm) for i, arm in enumerate(arms)], class_='legend')
    drawn = [_figure(sweep, field, shown, arms) for field in sweep.plan.fields]
    note = (
        'A dot for each point: the mean over its seeds, with its 95 % interval where that fits. The line joins the '
        'best point at each value.'
    )
    several = legend if len(arms) > 1 else None
    return section('By field', several, tag('div', drawn, class_='figures'), note=note, key='fields')


def _figure(sweep: Standing, field: str, shown: Sequence[Place], arms: Sequence[str]) -> Safe:
    unit = ', %' if numbers.is_share(sweep.plan.metric) else ''
    title = f'{numbers.label(sweep.plan.metric)}{unit} against {field}'
    return tag('figure', tag('figcaption', tag('span', title, class_='title')), against(sweep, field, shown, arms))


def against(sweep: Standing, field: str, shown: Sequence[Place], arms: Sequence[str]) -> Safe:
    """The metric of every point against one field. Values that are no numbers stand side by side in their order."""
    metric, more = sweep.plan.metric, sweep.plan.more
    scale = 100.0 if numbers.is_share(metric) else 1.0
    axis = _Axis([place.values[field] for place in shown])

    def draw(axes: Axes) -> None:
        axes.grid(axis='y')
        axes.set_axisbelow(True)
        axis.set(axes, field)
        means = [scale * place.mean(metric) for place in shown]
        _limit(axes, means)
        for i, arm in enumerate(arms):
            colour = figures.ARMS[i % len(figures.ARMS)]
            of_arm = [(axis.at(p.values[field]), y, p) for p, y in zip(shown, means, strict=True) if p.arm == arm]
            best = {x: (max if more else min)(y for at, y, _ in of_arm if at == x) for x, _, _ in of_arm}
            line = sorted(best.items())
            axes.plot([x for x, _ in line], [y for _, y in line], color=colour, ls=figures.dashes(i))
            for x, y, place in of_arm:
                found = numbers.interval(place.metrics[metric])
                if found is not None and math.isfinite(found.low):
                    axes.plot([x, x], [scale * found.low, scale * found.high], color=colour, lw=1, alpha=0.5)
                axes.plot([x], [y], 'o', ms=6, color=colour, mew=0, alpha=0.8)

    about = f'{numbers.label(metric)} of every point against {field}'
    return figures.svg(draw, size=(360, 236), box=(0.135, 0.2, 0.845, 0.77), about=about)


def _limit(axes: Axes, means: Sequence[float]) -> None:
    """Room for the points; an interval of few seeds may be cut, so that it does not flatten them."""
    low, high = min(means), max(means)
    room = 0.35 * (high - low) or 0.01 * abs(high) or 1.0
    axes.set_ylim(low - room, high + room)
    axes.locator_params(axis='y', nbins=5)


class _Axis:
    """Where the values of a field stand."""

    def __init__(self, values: Sequence[Any]):
        self.values = list(dict.fromkeys(_key(v) for v in values))
        self.numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in self.values)
        if self.numeric:
            self.values.sort()

    def at(self, value: Any) -> float:
        return float(value) if self.numeric else float(self.values.index(_key(value)))

    def set(self, axes: Axes, field: str) -> None:
        axes.set_xlabel(field)
        at = [self.at(v) for v in self.values]
        if self.numeric and at[0] > 0 and at[-1] / at[0] >= LOGARITHMIC:
            axes.set_xscale('log')
        if not self.numeric:
            axes.set_xlim(-0.4, len(at) - 0.6)
        if len(at) <= 8:
            axes.set_xticks(at, [f'{v:g}' if self.numeric else said(v) for v in self.values])
            axes.set_xticks([], minor=True)


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
