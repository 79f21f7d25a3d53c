"""Maths as it is typed in a docstring, made readable: no fonts, no scripts, no network."""

from __future__ import annotations

import html
import re

from kdjax.report.markup import Safe

GREEK = {
    'alpha': 'α', 'beta': 'β', 'gamma': 'γ', 'delta': 'δ', 'epsilon': 'ε', 'eps': 'ε', 'zeta': 'ζ',
    'eta': 'η', 'theta': 'θ', 'kappa': 'κ', 'lambda': 'λ', 'mu': 'μ', 'nu': 'ν', 'xi': 'ξ', 'pi': 'π',
    'rho': 'ρ', 'sigma': 'σ', 'tau': 'τ', 'phi': 'φ', 'chi': 'χ', 'psi': 'ψ', 'omega': 'ω',
    'Delta': 'Δ', 'Theta': 'Θ', 'Lambda': 'Λ', 'Sigma': 'Σ', 'Phi': 'Φ', 'Psi': 'Ψ', 'Omega': 'Ω',
}  # fmt: skip
OPERATORS = {'sum': '∑', 'prod': '∏', 'sqrt': '√', 'inf': '∞', 'infinity': '∞', 'grad': '∇'}
LONE = {'sqrt', 'inf', 'infinity', 'grad'}
"""Operators that need no index; `sum over exits` stays a sentence."""
NAMES = {'KL', 'CE', 'JS', 'JSD', 'TV', 'MSE', 'L', 'log', 'exp', 'max', 'min', 'mean', 'softmax', 'sg'}
SIGNS = (
    ('&lt;-&gt;', '↔'), ('-&gt;', '→'), ('&lt;-', '←'), ('&lt;=', '≤'), ('&gt;=', '≥'), ('||', '‖'),
    ('...', '…'), (' * ', ' · '), (' - ', ' − '), ('!=', '≠'), ('~=', '≈'),
)  # fmt: skip


_SCRIPT = r'\{[^{}]*\}|\([^()]*\)|[A-Za-z0-9*]+'
_BELOW, _ABOVE = rf'(?:_({_SCRIPT}))?', rf'(?:\^({_SCRIPT}|-[A-Za-z0-9]+))'
_ATOM = re.compile(rf'(?<![A-Za-z0-9_&])([A-Za-z]+){_BELOW}{_ABOVE}?(?![A-Za-z0-9_])')
_POWER = re.compile(rf'(?<=[)\]}}|‖]){_ABOVE}')
_MINUS = re.compile(r'(?<![^\s(\[{,=])-(?=[A-Za-z0-9∑∏√(\[|])')


def maths(text: str) -> Safe:
    """A line of maths: Greek letters, sub- and superscripts, real signs.

    `T^2 KL(p_T || p_S)` -> `T² KL(p_T ‖ p_S)` with HTML sub- and superscripts. Names of several letters
    that are not maths (`student_logits`) are left as they are.
    """
    escaped = html.escape(text, quote=False)
    for plain, sign in SIGNS:
        escaped = escaped.replace(plain, sign)
    escaped = _POWER.sub(lambda found: _raised(found[1]), _ATOM.sub(_atom, escaped))
    return Safe(_MINUS.sub('−', escaped))


def indices(text: str) -> Safe:
    """Text with maths in it: only what carries an index or a power is set as maths (`p_S`, `T^2`)."""
    return Safe(_ATOM.sub(lambda f: _atom(f) if f[2] or f[3] else f[0], html.escape(text, quote=False)))


def _atom(found: re.Match[str]) -> str:
    name, below, above = found.groups()
    operator = name in OPERATORS and bool(below or above or name in LONE)
    if not (len(name) == 1 or name in GREEK or name in NAMES or operator):
        return found[0]
    shown = GREEK.get(name, OPERATORS.get(name, name))
    return shown + (f'<sub>{_inner(_bare(below))}</sub>' if below else '') + (_raised(above) if above else '')


def _raised(script: str) -> str:
    inside = script if script.startswith('(') else _bare(script)
    return f'<sup>{_inner(inside).replace("-", "−")}</sup>'


def _bare(script: str) -> str:
    """Without the braces or brackets that hold it together."""
    return script[1:-1] if script[0] in '{(' else script


def _inner(script: str) -> str:
    return _ATOM.sub(_atom, script)
