"""The fair table of condensed sets: method, size, student, by hard and by soft labels, and what is stored.

Read from records: of an experiment on condensed images, of `kdjax condense --table`, or of one set's card.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdjax.metrics.condensation import augmentation_robust_score, label_robust_score
from kdjax.report import numbers
from kdjax.report.layout import page, section
from kdjax.report.markup import Safe, join, link, table, tag

PATH = 'condensing.html'
SIZED = re.compile(r'^(?P<name>.+)_(?P<size>\d+)$')
REAL, RANDOM, PLAIN = 'rs2', 'random', '_plain'
"""Names of arms: all real images at equal steps, random images, and what ends the names of those without crops."""

NOTE = (
    'Accuracy by hard labels and by the soft labels of one teacher, with the same recipe, as many steps and the last '
    'iterate for every set. rs2 trains on all real images for as many steps: it is matched in compute, not in storage. '
    'Bytes are of images in float32 and of labels. LRS (DD-Ranking, in 0..1) is 0.27 where a set is as good as random '
    'images and as all real ones. Seconds are of what an arm trains: its set and all its students.'
)


@dataclasses.dataclass(frozen=True)
class Row:
    """An arm: method, images of each class, its metrics by seed, its scores by seed."""

    method: str
    size: int
    metrics: Mapping[str, Sequence[numbers.Number]]
    scores: Mapping[str, Sequence[numbers.Number]]
    seconds: numbers.Number


def is_condensed(record: Mapping[str, Any]) -> bool:
    """Whether arms of this record learned from stored sets."""
    return any('stored_bytes' in arm['metrics'] for arm in record['arms'].values())


def students(record: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What each student is called -> its metrics by hard and by soft labels; the set's own labels are soft ones."""
    config = record['config']
    found = {config['student']: ('accuracy', 'soft/accuracy')}
    for spec in config['transfer']:
        own = spec.partition('-')[0]
        found[spec] = f'{own}/accuracy', f'{own}_soft/accuracy'
    own_labels = any('own/accuracy' in arm['metrics'] for arm in record['arms'].values())
    return found | ({f'{config["student"]}, own labels': ('', 'own/accuracy')} if own_labels else {})


def rows(record: Mapping[str, Any]) -> list[Row]:
    """One for each arm that learned from a set or from all images; small sizes first, all images last in their size."""
    arms, usual = record['arms'], record['config']['per_class']
    made = []
    for arm, summary in arms.items():
        found = SIZED.match(arm)
        name, size, suffix = (found['name'], int(found['size']), f'_{found["size"]}') if found else (arm, usual, '')
        if arm.endswith(PLAIN) or (name != REAL and 'stored_bytes' not in summary['metrics']):
            continue
        scores = {} if name == REAL else _scores(arms, arm, suffix)
        made.append(Row(name, size, summary['metrics'], scores, summary['cost'].get('seconds')))
    return sorted(made, key=lambda row: (row.size, row.method == REAL))


def _scores(arms: Mapping[str, Any], arm: str, suffix: str) -> dict[str, list[numbers.Number]]:
    """Against random and all images of the same size, by seed; nothing without the arms that they need.

    LRS, and ARS where the set and random images were measured without augmentation too.
    """

    def by_seed(name: str, metric: str) -> Sequence[numbers.Number]:
        return arms.get(name, {}).get('metrics', {}).get(metric, ())

    hard, soft = by_seed(arm, 'accuracy'), by_seed(arm, 'soft/accuracy')
    random = RANDOM + suffix
    full = by_seed(REAL + suffix, 'accuracy') or by_seed(REAL, 'accuracy')
    chance = by_seed(random, 'soft/accuracy')
    scores = {}
    if full and chance:
        scores['lrs'] = [
            _scored(label_robust_score, synthetic_hard=h, full_hard=f, synthetic=s, random=r)
            for h, f, s, r in zip(hard, full, soft, chance, strict=True)
        ]
    bare, bare_chance = by_seed(arm + PLAIN, 'soft/accuracy'), by_seed(random + PLAIN, 'soft/accuracy')
    if chance and bare and bare_chance:
        scores['ars'] = [
            _scored(augmentation_robust_score, synthetic=s, random=r, synthetic_plain=p, random_plain=q)
            for s, r, p, q in zip(soft, chance, bare, bare_chance, strict=True)
        ]
    return scores


def _scored(score: Callable[..., float], **accuracies: numbers.Number) -> numbers.Number:
    """Of one seed; None where an arm that it reads diverged."""
    return score(**accuracies) if all(map(numbers.known, accuracies.values())) else None


def cells(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table as text: header and rows."""
    named, found = students(record), rows(record)
    scores = [name for name in ('lrs', 'ars') if any(name in row.scores for row in found)]
    pairs = {who: [m for m in metrics if any(m in r.metrics for r in found)] for who, metrics in named.items()}
    header = ['method', 'images a class']
    header += [f'{who}, {_kind(m)}' for who, metrics in pairs.items() for m in metrics]
    header += ['stored', *(name.upper() for name in scores), 'seconds']
    body = []
    for row in found:
        said = [numbers.summary(m, row.metrics.get(m, ())) for metrics in pairs.values() for m in metrics]
        stored = next(filter(numbers.known, row.metrics.get('stored_bytes', ())), None)
        body.append([
            row.method, f'{row.size}', *said,
            numbers.size(stored),
            *(numbers.summary(name, row.scores.get(name, ())) for name in scores), numbers.decimal(row.seconds, 1),
        ])  # fmt: skip
    return header, body


def _kind(metric: str) -> str:
    return 'hard' if 'soft' not in metric and not metric.startswith('own') else 'soft'


def markdown(record: Mapping[str, Any]) -> str:
    """The table for a page of text."""
    header, body = cells(record)
    lines = [header, ['---'] * len(header), *body]
    facts = f'{record["dataset"]}, {record["split"]} split, {numbers.counted(len(record["seeds"]), "seed")}'
    return f'{facts}.\n\n' + '\n'.join(f'| {" | ".join(line)} |' for line in lines) + f'\n\n{NOTE}\n'


def condensing_page(records: Sequence[Mapping[str, Any]]) -> Safe:
    """One section for each record, in their order."""
    return page(
        'Condensed sets',
        tag('h1', 'Small data that trains well'),
        *(_section(record) for record in records),
        here=PATH,
    )


def _section(record: Mapping[str, Any]) -> Safe:
    header, body = cells(record)
    facts = join(
        record['experiment'], record['dataset'], f'{record["split"]} split',
        numbers.counted(len(record['seeds']), 'seed'), between=' · ',
    )  # fmt: skip
    return section(record['title'], tag('p', facts, class_='facts'), table(header, body), note=NOTE)


def listing(records: Sequence[Mapping[str, Any]]) -> Safe | None:
    """The part of the first page that leads here; None where there is nothing to show."""
    if not records:
        return None
    said = f'The fair table of {numbers.counted(len(records), "comparison")}'
    return section('Condensed sets', tag('p', link(said, PATH), ': method, size and student, by hard and soft labels.'))
