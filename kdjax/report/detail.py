"""The page of one experiment, from its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kdjax.catalogue import system
from kdjax.report import figures, lab_note, numbers
from kdjax.report.coverage import Page
from kdjax.report.health import BESIDE, GROUPS, HEALTH
from kdjax.report.images import picture, scaled
from kdjax.report.layout import badge, page, section, system_link
from kdjax.report.markup import Content, Safe, join, table, tag
from kdjax.report.samples import samples
from kdjax.stage import Artifact

Images = Callable[[str, list[int]], np.ndarray | None]
Pictures = Callable[[Mapping[str, Any]], Artifact | None]
"""What the verification of a record has kept to look at; None where it is not here."""

CURVES = ('accuracy', 'nll', 'loss', 'agreement', *HEALTH)
"""Drawn where a record has them, after the metrics of its claims."""

COSTS: dict[str, tuple[str, Callable[[numbers.Number], str]]] = {
    'parameters': ('parameters', numbers.quantity),
    'forward_flops': ('forward pass', lambda v: numbers.quantity(v, 'FLOP')),
    'student_flops': ('student, training', lambda v: numbers.quantity(v, 'FLOP')),
    'teacher_flops': ('teacher, training', lambda v: numbers.quantity(v, 'FLOP')),
    'teacher_queries': ('teacher queries', numbers.quantity),
    'cache_bytes': ('cache', numbers.size),
    'seconds': ('time', numbers.duration),
    'peak_memory_bytes': ('peak memory', numbers.size),
}


def detail(shown: Page, images: Images | None, pictures: Pictures | None = None) -> Safe:
    """Everything that the record and the lab note say; parts without data are left out."""
    record = shown.record or {}
    return page(
        shown.title,
        _heading(shown, record),
        tag('div', lab_note.render(shown.docstring), class_='lab-note') if shown.docstring.strip() else None,
        _claims(record),
        _diverged(record),
        _metrics(record),
        _samples(record, pictures),
        *_beside(record),
        _curves(record),
        _calibration(record),
        _disagreements(record, images),
        _cost(record),
        _repeat(shown),
        _identity(record),
        root='../../',
    )


def _heading(shown: Page, record: Mapping[str, Any]) -> Safe:
    facts = join(
        shown.name,
        f'{record["dataset"]}, {record["split"]} split',
        numbers.counted(len(record['seeds']), 'seed'),
        between=' · ',
    )
    covered = [system_link(n, system(n).name, '../../') for n in shown.systems]
    return join(
        tag('p', facts, class_='facts'),
        tag('h1', shown.title),
        tag('p', badge(shown.status), class_='verdict'),
        tag('p', 'Answers to ', join(covered, between=', '), class_='facts covered') if covered else None,
    )


def _claims(record: Mapping[str, Any]) -> Safe | None:
    if not record['claims']:
        return None
    note = (
        'Difference of the two arms at equal seed: one dot for each seed, below them the mean with its '
        '95 % Student-t interval. The claimed side is shaded.'
    )
    return section(
        'Claims', tag('div', [_claim(c) for c in record['claims']], class_='figures'), note=note, key='claims'
    )


def _claim(claim: Mapping[str, Any]) -> Safe:
    mean, span = numbers.difference(claim['metric'], claim['mean'], claim['low'], claim['high'])
    told = (tag('code', claim['text']), ' ', badge(claim['verdict']))
    value = (f'{claim["left"]} − {claim["right"]}: {mean}, interval ', tag('span', span, class_='whole'))
    return tag(
        'figure',
        tag('figcaption', tag('span', *told, class_='title'), tag('span', *value)),
        figures.paired_differences(claim),
    )


def _diverged(record: Mapping[str, Any]) -> Safe | None:
    rows = [[name, seed, why] for name, arm in record['arms'].items() for seed, why in arm.get('diverged', {}).items()]
    if not rows:
        return None
    note = (
        'These runs could not be finished, or what they learned could not be measured. A claim that such an arm is the '
        'better one is contrary; where the other arm diverged, the claim is judged on the seeds that are left, if they '
        'are three or more.'
    )
    return section('Diverged', table(['arm', 'seed', 'why'], rows), note=note, key='diverged')


def _metrics(record: Mapping[str, Any]) -> Safe:
    arms = record['arms']
    metrics = list(dict.fromkeys(m for a in arms.values() for m in a['metrics']))
    own = [m for m in metrics if '/' not in m and m not in BESIDE]
    other = [m for m in metrics if '/' in m]
    note = f'Mean over {numbers.counted(len(record["seeds"]), "seed")} ± half of its 95 % interval.'
    described = [join(tag('dt', n), tag('dd', a['description'])) for n, a in arms.items() if a.get('description')]
    return section(
        'Results',
        tag('dl', described, class_='arms') if described else None,
        _metric_table(arms, own) if own else None,
        _metric_table(_having(arms, other), other) if other else None,
        tag('details', tag('summary', 'Every seed'), _every_seed(record, metrics)),
        note=note,
        key='results',
    )


def _samples(record: Mapping[str, Any], pictures: Pictures | None) -> Safe | None:
    kept = pictures(record) if pictures is not None and record else None
    return samples(kept, record['split'], record['arms']) if kept is not None else None


def _beside(record: Mapping[str, Any]) -> list[Safe]:
    """Tables of what stands beside quality, and what its metrics say."""
    arms, parts = record['arms'], []
    for title, key, about in GROUPS:
        there = [m for m in about if any(m in arm['metrics'] for arm in arms.values())]
        if there:
            said = [join(tag('dt', numbers.label(m)), tag('dd', about[m])) for m in there]
            told = tag('dl', said, class_='arms')
            parts.append(section(title, _metric_table(_having(arms, there), there), told, key=key))
    return parts


def _having(arms: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    return {n: a for n, a in arms.items() if any(m in a['metrics'] for m in metrics)}


def _metric_table(arms: Mapping[str, Any], metrics: Sequence[str]) -> Safe:
    header = [
        'arm',
        *(f'{numbers.label(m)} {numbers.BETTER.get(numbers.base(m), "")}'.strip() for m in metrics),
    ]
    rows = [
        [
            name,
            *(numbers.summary(m, arm['metrics'][m]) if m in arm['metrics'] else numbers.NONE for m in metrics),
        ]
        for name, arm in arms.items()
    ]
    return table(header, rows)


def _every_seed(record: Mapping[str, Any], metrics: Sequence[str]) -> list[Safe]:
    header = ['arm', *(f'seed {s}' for s in record['seeds'])]

    def values(metric: str) -> list[list[Content]]:
        having = _having(record['arms'], [metric])
        return [[n, *(numbers.one(metric, v) for v in a['metrics'][metric])] for n, a in having.items()]

    units = {m: f'{numbers.label(m)}{", %" if numbers.is_share(m) else ""}' for m in metrics}
    return [table(header, values(m), caption=units[m]) for m in metrics]


def _legend(arms: Mapping[str, Any]) -> Safe:
    return tag('ul', [tag('li', figures.swatch(i), name) for i, name in enumerate(arms)], class_='legend')


def _curves(record: Mapping[str, Any]) -> Safe | None:
    arms = {n: a.get('curves') or {} for n, a in record['arms'].items()}
    there = [m for c in arms.values() for m in c if m != 'step']
    wanted = dict.fromkeys([*(numbers.base(c['metric']) for c in record['claims']), *CURVES])
    drawn = [_curve(m, arms) for m in wanted if m in there]
    if not drawn:
        return None
    note = (
        'While training, on data that is neither trained nor tested on: the mean over seeds, '
        'in a band from the lowest to the highest.'
    )
    return section('Learning curves', _legend(arms), tag('div', drawn, class_='figures'), note=note, key='curves')


def _curve(metric: str, arms: Mapping[str, Any]) -> Safe:
    unit = ', %' if numbers.is_share(metric) else ''
    curves = {n: (c.get('step') or [], c.get(metric) or []) for n, c in arms.items()}
    caption = tag('figcaption', tag('span', numbers.label(metric) + unit, class_='title'))
    return tag('figure', caption, figures.learning_curve(metric, curves))


def _calibration(record: Mapping[str, Any]) -> Safe | None:
    drawn = []
    for i, (name, arm) in enumerate(record['arms'].items()):
        if not any((arm.get('calibration') or {}).get('count') or []):
            continue
        ece = arm['metrics'].get('ece')
        value = tag('span', f'ECE {numbers.summary("ece", ece)}') if ece else None
        caption = tag('figcaption', tag('span', name, class_='title'), value)
        drawn.append(tag('figure', caption, figures.reliability(name, i, arm['calibration'])))
    if not drawn:
        return None
    note = (
        'Accuracy against confidence over all seeds. On the dashed line a confidence of 80 % is right four '
        'times out of five; below it the model is too sure. The area of a dot is its share of the examples.'
    )
    return section('Calibration', tag('div', drawn, class_='figures small'), note=note, key='calibration')


def _disagreements(record: Mapping[str, Any], images: Images | None) -> Safe | None:
    listed = record.get('disagreements') or []
    pictures = images(record['dataset'], [d['index'] for d in listed]) if listed and images is not None else None
    if pictures is None or len(pictures) != len(listed):
        return None
    cells = [_disagreement(d, p) for d, p in zip(listed, scaled(pictures), strict=True)]
    note = (
        f'Images of the {record["split"]} split on which the teacher and at least one student '
        f'(seed {record["seeds"][0]}) differ, those with most dissent first. Wrong answers are struck out.'
    )
    return section(
        'Where teacher and student disagree',
        tag('ol', cells, class_='gallery'),
        note=note,
        key='disagreements',
    )


def _disagreement(case: Mapping[str, Any], image: np.ndarray) -> Safe:
    truth = case['label']
    said = [join(tag('dt', n), tag('dd', _answer(v, truth))) for n, v in case['students'].items()]
    answers = tag(
        'dl',
        tag('dt', 'label'),
        tag('dd', f'{truth}'),
        tag('dt', 'teacher'),
        tag('dd', _answer(case['teacher'], truth)),
        said,
    )
    return tag('li', picture(image, f'test image {case["index"]}, label {truth}'), answers)


def _answer(said: Any, truth: Any) -> Safe:
    return tag('b', f'{said}') if said == truth else tag('s', f'{said}')


def _cost(record: Mapping[str, Any]) -> Safe | None:
    arms = {n: a['cost'] for n, a in record['arms'].items() if a.get('cost')}
    known = [k for k in COSTS if any(k in c for c in arms.values())]
    if not known:
        return None
    header = ['arm', *(COSTS[k][0] for k in known)]
    rows = [[n, *(COSTS[k][1](c.get(k)) for k in known)] for n, c in arms.items()]
    return section('Cost', table(header, rows), note='Of one run; the mean over seeds.', key='cost')


def _repeat(shown: Page) -> Safe:
    took = (shown.record or {}).get('seconds')
    note = f'It took {numbers.duration(took)} on the machine below.' if numbers.known(took) else None
    return section('Repeat it', tag('pre', shown.command, tabindex=0), note=note, key='repeat')


def _identity(record: Mapping[str, Any]) -> Safe:
    identity = record.get('identity') or {}
    rows = [(k, _plain(v)) for k, v in identity.items() if k != 'versions']
    rows += [(k, str(v)) for k, v in (identity.get('versions') or {}).items()]
    rows += [('seeds', ', '.join(map(str, record['seeds'])))]
    config = [(k, _plain(v)) for k, v in (record.get('config') or {}).items()]
    return section(
        'Made from',
        _pairs(rows),
        tag('details', tag('summary', 'Configuration'), _pairs(config)) if config else None,
        key='identity',
    )


def _plain(value: Any) -> str:
    return numbers.significant(value, 6) if isinstance(value, float) else f'{value}'


def _pairs(rows: Sequence[tuple[str, str]]) -> Safe:
    return tag('dl', [join(tag('dt', k), tag('dd', v)) for k, v in rows], class_='pairs')
