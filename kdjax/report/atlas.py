"""The atlas: every system of the catalogue, to be searched and filtered."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence

from kdjax.report.coverage import STATUSES, Entry
from kdjax.report.layout import badge, page
from kdjax.report.markup import Safe, join, link, tag


def atlas(entries: Sequence[Entry]) -> Safe:
    """One row for each system. The rows are in the page itself: without JavaScript it is a plain list."""
    script = importlib.resources.files('kdjax.report').joinpath('atlas.js').read_text(encoding='utf-8')
    return page(
        'Atlas',
        tag('h1', 'Atlas'),
        tag(
            'p',
            f'The {len(entries)} published systems that kdjax answers to, and how far it has come.',
            class_='lead',
        ),
        _controls(entries),
        tag('p', f'{len(entries)} systems', id='shown', role='status', class_='note'),
        tag('ol', [_row(e) for e in entries], class_='atlas', id='rows'),
        here='atlas.html',
        scripts=tag('script', Safe(script)),
    )


def _controls(entries: Sequence[Entry]) -> Safe:
    families = _counted([e.system.family for e in entries])
    statuses = _counted([s for e in entries for s in e.statuses])
    search = tag(
        'input',
        type='search',
        id='search',
        placeholder='name, title, idea …',
        autocomplete='off',
        spellcheck='false',
    )
    return tag(
        'form',
        tag('label', tag('span', 'Search'), search),
        tag(
            'label',
            tag('span', 'Family'),
            _select('family', [(f, f, n) for f, n in sorted(families.items())]),
        ),
        tag(
            'label',
            tag('span', 'Status'),
            _select('status', [(s, said, statuses[s]) for s, said in STATUSES.items() if s in statuses]),
        ),
        class_='controls',
        role='search',
        id='controls',
    )


def _counted(values: Sequence[str]) -> dict[str, int]:
    return {v: values.count(v) for v in dict.fromkeys(values)}


def _select(key: str, options: Sequence[tuple[str, str, int]]) -> Safe:
    return tag(
        'select',
        tag('option', 'all', value=''),
        [tag('option', f'{s} ({n})', value=v) for v, s, n in options],
        id=key,
    )


def _row(entry: Entry) -> Safe:
    s = entry.system
    title = tag('p', s.title, class_='paper') if s.title.casefold() != s.name.casefold() else None
    why = tag('p', s.outside, class_='why') if s.outside else None
    return tag(
        'li',
        tag('span', f'{s.id}', class_='number'),
        tag(
            'div', tag('h2', s.name), title, None if s.outside else tag('p', s.summary, class_='summary'), why
        ),
        tag('span', s.family, class_='family'),
        tag('div', [badge(t) for t in entry.statuses], _experiments(entry), class_='state'),
        id=f's{s.id}',
        data_family=s.family,
        data_status=' '.join(entry.statuses),
    )


def _experiments(entry: Entry) -> Safe | None:
    verified = [link(p.name, p.path) for p in entry.pages if p.record]
    return join([tag('span', v, class_='where') for v in verified]) if verified else None
