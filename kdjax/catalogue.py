"""The catalogue: the published systems that kdjax answers to, in our own words."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json

from kdjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class System:
    """One published system.

    id: its number, 0..451, which an experiment names in `systems=(85,)`. title: the paper's.
    name: the short name. family: one of `families()`. summary: what it does, in one sentence.
    outside: why it is outside distillation code (a survey, a serving stack ...); None where it is inside.
    """

    id: int
    title: str
    name: str
    family: str
    summary: str
    outside: str | None = None


@functools.cache
def systems() -> tuple[System, ...]:
    """Every system, by id."""
    text = importlib.resources.files('kdjax').joinpath('catalogue.json').read_text(encoding='utf-8')
    return tuple(System(**row) for row in json.loads(text))


@functools.cache
def _by_id() -> dict[int, System]:
    return {s.id: s for s in systems()}


def system(number: int) -> System:
    """The system of that id; UserError where there is none."""
    found = _by_id().get(number)
    if found is None:
        raise UserError(
            f'the catalogue has no system {number}: its ids run from 0 to {len(systems()) - 1}, '
            'correct `systems=` of the experiment'
        )
    return found


@functools.cache
def families() -> tuple[str, ...]:
    """The names of the families, in alphabetical order."""
    return tuple(sorted({s.family for s in systems()}))
