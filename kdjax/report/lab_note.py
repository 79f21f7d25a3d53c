"""An experiment's docstring as HTML: paragraphs, and its indented blocks as maths."""

from __future__ import annotations

import re
import textwrap

from kdjax.report.markup import Safe, join, tag
from kdjax.report.maths import indices, maths

_LABEL = re.compile(r'\S+(?: \S+)* {2,}(?=\S)')
_COMMAND = re.compile(r'^\s*(\$ |kdjax |python|pip )', re.M)
_INLINE = re.compile(r'`([^`]+)`|\barXiv[: ](\d{4}\.\d{4,5}|[a-z-]+/\d{7})|https?://[^\s<>()]*[^\s<>().,;]')


def prose(text: str) -> Safe:
    """A paragraph's text: `code`, indices as maths, arXiv numbers and addresses as links."""
    out, at = [], 0
    for found in _INLINE.finditer(text):
        out += [indices(text[at : found.start()]), _inline(found)]
        at = found.end()
    return join(out, indices(text[at:]))


def _inline(found: re.Match[str]) -> Safe:
    code, paper = found.groups()
    if code:
        return tag('code', code)
    return tag('a', found[0], href=f'https://arxiv.org/abs/{paper}' if paper else found[0])


def blocks(docstring: str) -> list[tuple[bool, str]]:
    """(indented?, text) of every block: neighbouring lines of the same kind between blank lines."""
    found: list[tuple[bool, list[str]]] = []
    fresh = True
    for line in docstring.strip('\n').splitlines():
        if not line.strip():
            fresh = True
            if found and found[-1][0]:
                found[-1][1].append('')
            continue
        indented = line.startswith('  ')
        same = bool(found) and found[-1][0] == indented and (indented or not fresh)
        if same:
            found[-1][1].append(line)
        else:
            found.append((indented, [line]))
        fresh = False
    return [(indented, '\n'.join(lines).rstrip()) for indented, lines in found]


def render(docstring: str) -> Safe:
    """The whole lab note. The first paragraph stands out."""
    out = []
    for i, (indented, text) in enumerate(blocks(docstring)):
        if not indented:
            out.append(tag('p', prose(' '.join(text.split())), class_='lead' if i == 0 else None))
        elif _COMMAND.search(text):
            out.append(tag('pre', textwrap.dedent(text), tabindex=0))
        else:
            out.append(_display(textwrap.dedent(text).splitlines()))
    return join(out)


def _display(lines: list[str]) -> Safe:
    """Lines of maths; what does not fit goes on below the formula, not below its label."""
    labels = [found.end() for found in map(_LABEL.match, lines) if found]
    hang = f'--hang: {min(labels)}ch' if labels else None
    return tag('pre', [tag('span', maths(line) or ' ') for line in lines], class_='maths', style=hang)
