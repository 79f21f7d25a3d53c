"""The first page: every verdict at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdjax.report import condensing, figures, numbers
from kdjax.report.coverage import Entry, Page
from kdjax.report.layout import badge, page, section
from kdjax.report.markup import Safe, join, link, tag
from kdjax.report.sweeps import listing
from kdjax.run.sweeps.standing import Standing

RULE = (
    'Reproduced: the 95 % interval of the paired difference lies on the claimed side of zero (or of the '
    'claimed margin). Contrary: it lies on the other side, or the arm that is said to be better diverged. '
    'Inconclusive: zero (or the margin) is inside.'
)


def overview(
    pages: Sequence[Page],
    atlas: Sequence[Entry],
    sweeps: Sequence[Standing] = (),
    sets: Sequence[Mapping[str, Any]] = (),
) -> Safe:
    """The verdict table, what is not verified yet, the sweeps, and the ways to condensed sets and to the atlas."""
    verified = [p for p in pages if p.record]
    waiting = [p for p in pages if not p.record]
    return page(
        'kdjax',
        tag('h1', 'Does it beat its baseline?'),
        tag('p', _count(verified, atlas), class_='lead'),
        section('Verdicts', _verdicts(verified), note=RULE, key='verdicts'),
        section('Not verified yet', _waiting(waiting), key='waiting') if waiting else None,
        listing(sweeps),
        condensing.listing(sets),
        section(
            'Atlas',
            tag('p', link(f'All {len(atlas)} systems of the catalogue', 'atlas.html'), ', searchable.'),
        ),
        here='index.html',
    )


def _count(verified: Sequence[Page], atlas: Sequence[Entry]) -> str:
    if not verified:
        return 'No experiment has been verified yet.'
    by = {s: sum(p.status == s for p in verified) for s in figures.VERDICTS}
    told = ', '.join(f'{n} {status}' for status, n in by.items() if n)
    covered = sum(any(p.record for p in e.pages) for e in atlas)
    return (
        f'{numbers.counted(len(verified), "experiment")} verified: {told}. '
        f'Between them they answer to {covered} of {len(atlas)} published systems.'
    )


def _verdicts(verified: Sequence[Page]) -> Safe:
    if not verified:
        return tag('p', 'Run ', tag('code', 'kdjax verify quickstart'), ' and write the report again.')
    return tag('ul', [_experiment(p) for p in verified], class_='verdicts')


def _experiment(shown: Page) -> Safe:
    record = shown.record or {}
    facts = join(shown.name, record['dataset'], numbers.counted(len(record['seeds']), 'seed'), between=' · ')
    head = tag(
        'div',
        tag('h3', link(shown.title, shown.path)),
        badge(shown.status),
        tag('p', facts, class_='facts'),
        class_='head',
    )
    return tag('li', head, tag('ul', [_claim(c) for c in record['claims']], class_='claims'), class_='experiment')


def _claim(claim: Mapping[str, Any]) -> Safe:
    mean, span = numbers.difference(claim['metric'], claim['mean'], claim['low'], claim['high'])
    return tag(
        'li',
        tag('span', claim['text'], class_='text'),
        tag('span', figures.strip(claim), class_='picture'),
        tag('span', tag('b', mean), ' ', tag('span', span, class_='range'), class_='value'),
        badge(claim['verdict']),
    )


def _waiting(waiting: Sequence[Page]) -> Safe:
    return tag('ul', [tag('li', p.title, ' ', tag('code', p.command)) for p in waiting], class_='waiting')
