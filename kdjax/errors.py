"""The one exception that means: what was asked for cannot be done, and here is what to change."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The message names the value, the place and the remedy; the command line exits with 1."""


def unknown(kind: str, value: str, known: Iterable[str]) -> UserError:
    """`unknown('arm', 'dk', ['kd'])` -> "unknown arm 'dk'; did you mean 'kd'? Known: kd"."""
    known = sorted(known)
    close = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ''
    return UserError(f"unknown {kind} '{value}'; {hint}known: {', '.join(known) or '(none)'}")
