"""An experiment's docstring as HTML: paragraphs, and its indented blocks as maths."""

from __future__ import annotations

import html
import re
import textwrap

from kdjax.report.markup import Safe, join, tag

GREEK = {
    'alpha': 'α', 'beta': 'β', 'gamma': 'γ', 'delta': 'δ', 'epsilon': 'ε', 'eps': 'ε', 'zeta': 'ζ', 'eta': 'η',
    'theta': 'θ', 'kappa': 'κ', 'lambda': 'λ', 'mu': 'μ', 'nu': 'ν', 'xi': 'ξ', 'pi': 'π', 'rho': 'ρ', 'sigma': 'σ',
    'tau': 'τ', 'phi': 'φ', 'chi': 'χ', 'psi': 'ψ', 'omega': 'ω', 'Delta': 'Δ', 'Theta': 'Θ', 'Lambda': 'Λ',
    'Sigma': 'Σ', 'Phi': 'Φ', 'Psi': 'Ψ', 'Omega': 'Ω',
}  # fmt: skip
OPERATORS = {'sum': '∑', 'prod': '∏', 'sqrt': '√', 'inf': '∞', 'infinity': '∞', 'grad': '∇'}
NAMES = {'KL', 'CE', 'JS', 'JSD', 'TV', 'MSE', 'L', 'log', 'exp', 'max', 'min', 'mean', 'softmax', 'sg'}
SIGNS = (
    ('&lt;-&gt;', '↔'), ('-&gt;', '→'), ('&lt;-', '←'), ('&lt;=', '≤'), ('&gt;=', '≥'), ('||', '‖'),
    ('...', '…'), (' * ', ' · '), (' - ', ' − '), ('!=', '≠'), ('~=', '≈'),
)  # fmt: skip

_SCRIPT = r'\{[^{}]*\}|\([^()]*\)|[A-Za-z0-9*]+'
_ATOM = re.compile(rf'(?<![A-Za-z0-9_&])([A-Za-z]+)(?:_({_SCRIPT}))?(?:\^({_SCRIPT}))?(?![A-Za-z0-9_;])')
_COMMAND = re.compile(r'^\s*(\$ |kdjax |python|pip )', re.M)
_INLINE = re.compile(r'`([^`]+)`|\barXiv[: ](\d{4}\.\d{4,5}|[a-z-]+/\d{7})|https?://[^\s<>()]*[^\s<>().,;]')


def maths(text: str) -> Safe:
    """Plain-text maths made readable: Greek letters, sub- and superscripts, real signs. Nothing else is changed.

    `T^2 KL(p_T || p_S)` -> `T² KL(p_T ‖ p_S)` with HTML sub- and superscripts. Names of several letters that are not
    maths (`student_logits`) are left as they are.
    """
    escaped = html.escape(text, quote=False)
    for plain, sign in SIGNS:
        escaped = escaped.replace(plain, sign)
    return Safe(_ATOM.sub(_atom, escaped))


def _atom(found: re.Match[str]) -> str:
    name, below, above = found.groups()
    known = len(name) == 1 or name in GREEK or name in OPERATORS or name in NAMES
    if not known:
        return found[0]
    shown = GREEK.get(name, OPERATORS.get(name, name))
    below = f'<sub>{_inner(below)}</sub>' if below else ''
    above = f'<sup>{_inner(above, keep_round=True)}</sup>' if above else ''
    return shown + below + above


def _inner(script: str, keep_round: bool = False) -> str:
    bare = script[1:-1] if script[0] == '{' or (script[0] == '(' and not keep_round) else script
    return _ATOM.sub(_atom, bare)


def prose(text: str) -> Safe:
    """A paragraph's text: `code`, arXiv numbers and addresses as links."""
    out, at = [], 0
    for found in _INLINE.finditer(text):
        out += [text[at : found.start()], _inline(found)]
        at = found.end()
    return join(out, text[at:])


def _inline(found: re.Match[str]) -> Safe:
    code, paper = found.groups()
    if code:
        return tag('code', code)
    return tag('a', found[0], href=f'https://arxiv.org/abs/{paper}' if paper else found[0])


def blocks(docstring: str) -> list[tuple[bool, str]]:
    """(indented?, text) of every block: neighbouring lines of the same kind between blank lines."""
    found: list[tuple[bool, list[str]]] = []
    fresh = True
    for line in textwrap.dedent(_first_line_dedented(docstring)).splitlines():
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


def _first_line_dedented(docstring: str) -> str:
    """A docstring's first line stands beside the quotes: the other lines alone tell the margin."""
    first, newline, rest = docstring.strip('\n').partition('\n')
    return first.strip() + newline + textwrap.dedent(rest)


def render(docstring: str) -> Safe:
    """The whole lab note. The first paragraph stands out."""
    out = []
    for i, (indented, text) in enumerate(blocks(docstring)):
        if not indented:
            out.append(tag('p', prose(' '.join(text.split())), class_='lead' if i == 0 else None))
        elif _COMMAND.search(text):
            out.append(tag('pre', textwrap.dedent(text), tabindex=0))
        else:
            out.append(tag('pre', maths(textwrap.dedent(text)), class_='maths', tabindex=0))
    return join(out)
