"""Plain data as YAML: enough for manifests; strings that a reader might take for something else are quoted."""

from __future__ import annotations

import json
import re
from typing import Any

PLAIN = re.compile(r'[A-Za-z][A-Za-z0-9_./-]*')
"""A string that needs no quotes, unless it is one of YAML's words."""

WORDS = {'true', 'false', 'yes', 'no', 'on', 'off', 'null', 'y', 'n'}


def as_yaml(value: Any) -> str:
    """Mappings, lists, strings, numbers and booleans; a string of several lines stays readable."""
    return '\n'.join(_lines(value)) + '\n'


def _lines(value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        return [line for key, inner in value.items() for line in _entry(f'{_scalar(key)}:', inner)]
    if isinstance(value, list) and value and not _flat(value):
        return [line for inner in value for line in _item(inner)]
    return [_scalar(value)]


def _entry(key: str, value: Any) -> list[str]:
    if isinstance(value, str) and '\n' in value.rstrip('\n'):
        return [f'{key} |', *(f'  {line}'.rstrip() for line in value.rstrip('\n').splitlines())]
    nested = bool(value) and (isinstance(value, dict) or (isinstance(value, list) and not _flat(value)))
    if not nested:
        return [f'{key} {_scalar(value)}']
    return [key, *(f'  {line}' for line in _lines(value))]


def _item(value: Any) -> list[str]:
    first, *rest = _lines(value)
    return [f'- {first}', *(f'  {line}' for line in rest)]


def _flat(value: list[Any]) -> bool:
    """Short enough for one line: no more than a few words, or numbers."""
    return all(isinstance(inner, int) for inner in value) or (
        all(isinstance(inner, str) for inner in value) and sum(map(len, value)) < 80
    )


def _scalar(value: Any) -> str:
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return json.dumps(value)
