"""What every page has: the head, the navigation, the foot. And the badges that several pages show."""

from __future__ import annotations

from kdjax.report.coverage import STATUSES
from kdjax.report.markup import Content, Safe, join, link, tag

MARKS = {'reproduced': '✓', 'inconclusive': '≈', 'contrary': '✕', 'pending': '·', 'outside': '–'}


def page(title: str, *inside: Content, root: str = '', here: str = '', scripts: Content = None) -> Safe:
    """A whole document. root: how this page reaches the site's first folder ('' or '../../')."""
    head = tag(
        'head',
        tag('meta', charset='utf-8'),
        tag('meta', name='viewport', content='width=device-width, initial-scale=1'),
        tag('meta', name='color-scheme', content='light dark'),
        tag('title', title if title == 'kdjax' else f'{title} · kdjax'),
        tag('link', rel='icon', href='data:,'),
        tag('link', rel='stylesheet', href=f'{root}site.css'),
    )
    body = tag(
        'body',
        tag('header', _navigation(root, here), class_='site'),
        tag('main', *inside),
        tag('footer', 'Written by ', tag('code', 'kdjax report'), ' from the records of its verifications.'),
        scripts,
    )
    return Safe(f'<!doctype html>\n<html lang="en">\n{head}\n{body}\n</html>\n')


def _navigation(root: str, here: str) -> Safe:
    places = (('index.html', 'Verdicts'), ('atlas.html', 'Atlas'))
    links = [
        tag('a', text, href=root + file, aria_current='page' if file == here else None)
        for file, text in places
    ]
    return tag('nav', tag('a', 'kdjax', href=f'{root}index.html', class_='brand'), links)


def badge(status: str) -> Safe:
    """A verdict or status, told by its word, its mark and its colour."""
    known = status if status in STATUSES else 'pending'
    mark = tag('span', MARKS[known], aria_hidden='true')
    return tag('span', mark, ' ', STATUSES.get(status, status), class_=f'badge {known}')


def section(title: str, *inside: Content, note: str | None = None, key: str | None = None) -> Safe:
    """A titled part of a page; `note` says how to read it."""
    told = tag('p', note.replace(' %', '\N{NO-BREAK SPACE}%'), class_='note') if note else None
    return tag('section', tag('h2', title), told, *inside, id=key)


def system_link(number: int, name: str, root: str) -> Safe:
    return join(tag('span', f'{number}', class_='number'), ' ', link(name, f'{root}atlas.html#s{number}'))
