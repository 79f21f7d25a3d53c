"""Tables that lose no character: cells fold instead of being cut, names stay whole."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Column, Table

UNWATCHED_WIDTH = 1000
"""Columns of a line where no terminal says how many there are, a log or a pipe: no cell folds, and paths stay whole."""


def printer() -> Console:
    """The console of standard output."""
    return Console() if sys.stdout.isatty() else Console(width=UNWATCHED_WIDTH)


def table(first: str, *others: str, title: str | None = None) -> Table:
    """A table with these headers; the first column holds names."""
    columns = [Column(name, overflow='fold') for name in others]
    return Table(Column(first, no_wrap=True), *columns, title=title)
