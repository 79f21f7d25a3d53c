"""Sweeps: ordered lists of overrides, and four ways to make one of several.

A sweep is a list of points, a point maps fields of an experiment's configuration to values. A file may keep some by
name, for `kdjax sweep NAME --use FILE.py:coarse`:

    sweeps = {'coarse': chain(
        values('alpha', 0.5, 0.9), product(values('temperature', 1.0, 4.0), prefix('optimizer', values('rate', 1e-3)))
    )}

`product` and `chain` are associative; `product()` is the one point that overrides nothing, `chain()` no point at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from kdjax.errors import UserError

Point = dict[str, Any]
Sweep = list[Point]


def values(field: str, *choices: Any) -> Sweep:
    """A point for each value of one field. Nested fields are written with dots: 'optimizer.rate'."""
    return [{field: choice} for choice in choices]


def product(*sweeps: Sweep) -> Sweep:
    """Every combination, the last sweep running fastest. Raises `UserError` for a field that is in two of them."""
    _refuse_shared('product', sweeps)
    return [_merged(points) for points in itertools.product(*sweeps)]


def chain(*sweeps: Sweep) -> Sweep:
    """One sweep after the other. Fields that a point does not name keep the experiment's value."""
    return [dict(point) for sweep in sweeps for point in sweep]


def zipped(*sweeps: Sweep) -> Sweep:
    """The first points together, then the second ones. Raises `UserError` where lengths differ or fields are shared."""
    _refuse_shared('zip', sweeps)
    for other in sweeps[1:]:
        if len(other) != len(sweeps[0]):
            raise UserError(
                f'zip: {_told(sweeps[0])} has {len(sweeps[0])} points, {_told(other)} has {len(other)}: give both as '
                'many, or take their product'
            )
    return [_merged(points) for points in zip(*sweeps, strict=True)]


def prefix(path: str, sweep: Sweep) -> Sweep:
    """The same sweep for a nested configuration: `rate` becomes `path.rate`. It goes through the other three."""
    return [{f'{path}.{field}': value for field, value in point.items()} for point in sweep]


def fields(sweep: Iterable[Point]) -> list[str]:
    """Every field that a point overrides, in the order of their first appearance."""
    return list(dict.fromkeys(field for point in sweep for field in point))


def _merged(points: Iterable[Point]) -> Point:
    return {field: value for point in points for field, value in point.items()}


def _refuse_shared(what: str, sweeps: Iterable[Sweep]) -> None:
    seen: set[str] = set()
    for sweep in sweeps:
        for field in fields(sweep):
            if field in seen:
                raise UserError(f"{what}: '{field}' is in two of its sweeps: give its values once, or chain the sweeps")
        seen.update(fields(sweep))


def _told(sweep: Sweep) -> str:
    return ', '.join(f"'{field}'" for field in fields(sweep)) or 'the empty sweep'
