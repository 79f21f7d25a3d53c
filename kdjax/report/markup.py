"""HTML by construction: every plain string is escaped, only `Safe` text goes in as it is."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

VOID = frozenset({'br', 'hr', 'img', 'input', 'link', 'meta'})


class Safe(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Safe | None | Iterable[Any]


def join(*inside: Content, between: str = '') -> Safe:
    """The pieces in order; plain strings escaped, None left out, sequences flattened."""
    return Safe(between.join(_flat(inside)))


def tag(name: str, /, *inside: Content, **attributes: str | int | bool | None) -> Safe:
    """`tag('a', 'R & D', href='#')` -> '<a href="#">R &amp; D</a>'.

    An attribute's trailing underscore is dropped and others become hyphens; None and False leave it out, True
    gives it no value.
    """
    opening = f'<{name}{"".join(_attribute(k, v) for k, v in attributes.items())}>'
    return Safe(opening) if name in VOID else Safe(f'{opening}{join(*inside)}</{name}>')


def link(text: Content, href: str) -> Safe:
    return tag('a', text, href=href)


def table(
    header: Iterable[Content], rows: Iterable[Iterable[Content]], *, caption: str | None = None
) -> Safe:
    """A table that scrolls on its own when the page is narrow. The first cell of a row is its header."""
    head = tag('tr', [tag('th', h, scope='col') for h in header])
    body = [_row(list(cells)) for cells in rows]
    title = tag('caption', caption) if caption else None
    inside = tag('table', title, tag('thead', head), tag('tbody', body))
    return tag('div', inside, class_='scroll', tabindex=0, role='region', aria_label=caption or 'table')


def _row(cells: list[Content]) -> Safe:
    return tag('tr', tag('th', cells[0], scope='row'), [tag('td', c) for c in cells[1:]])


def _flat(inside: Iterable[Content]) -> Iterable[str]:
    for piece in inside:
        if piece is None:
            continue
        if isinstance(piece, Safe):
            yield piece
        elif isinstance(piece, str):
            yield html.escape(piece)
        else:
            yield from _flat(piece)


def _attribute(name: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return ''
    name = name.removesuffix('_').replace('_', '-')
    return f' {name}' if value is True else f' {name}="{html.escape(str(value))}"'
