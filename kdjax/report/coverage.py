"""Which experiment answers to which system of the catalogue, and how that stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from kdjax.catalogue import System

STATUSES = {
    'reproduced': 'reproduced',
    'inconclusive': 'inconclusive',
    'contrary': 'contrary',
    'pending': 'not yet',
    'outside': 'outside',
}
"""Every status of a system and how it is written."""


@dataclasses.dataclass(frozen=True)
class Page:
    """An experiment in the report: what its file says, and its record (None: not verified yet).

    name: family/name. command: what repeats the verification. docstring: the lab note.
    """

    name: str
    docstring: str
    command: str
    systems: tuple[int, ...]
    record: Mapping[str, Any] | None = None

    @property
    def title(self) -> str:
        first = self.docstring.strip().partition('\n')[0].rstrip('.')
        return str(self.record['title']) if self.record else first or self.name

    @property
    def status(self) -> str:
        return str(self.record['verdict']) if self.record else 'pending'

    @property
    def path(self) -> str:
        """The page's file, relative to the site."""
        return f'experiments/{self.name}.html'


@dataclasses.dataclass(frozen=True)
class Entry:
    """A system in the atlas, with the experiments that cover it."""

    system: System
    pages: tuple[Page, ...]

    @property
    def statuses(self) -> tuple[str, ...]:
        """One or more keys of STATUSES: the verdicts of its experiments, or why there is none."""
        verdicts = {p.status for p in self.pages if p.record}
        if verdicts:
            return tuple(s for s in STATUSES if s in verdicts)
        return ('outside',) if self.system.outside and not self.pages else ('pending',)


def entries(catalogue: Sequence[System], pages: Sequence[Page]) -> list[Entry]:
    """Every system, in the catalogue's order."""
    return [Entry(s, tuple(p for p in pages if s.id in p.systems)) for s in catalogue]
