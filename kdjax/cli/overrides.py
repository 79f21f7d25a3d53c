"""From 'temperature=1,2,4' to a sweep: values of the types that the experiment's configuration declares."""

from __future__ import annotations

import csv
import math
import pathlib
import runpy
import typing
from collections.abc import Iterable, Sequence
from typing import Any

import tyro

from kdjax.errors import UserError, unknown
from kdjax.run.sweeps.combinators import Point, Sweep, chain, product, values, zipped
from kdjax.run.sweeps.plan import flags, flat

MOST_POINTS = 10_000

Group = Sequence[str]


class Reader:
    """Reads values for one experiment's configuration. called: what its errors call the experiment."""

    def __init__(self, config: Any, called: str):
        self.config, self.called, self.known = config, called, flat(config)

    def sweep(self, text: str) -> Sweep:
        """FIELD=VALUE,VALUE as a sweep of one field. A value with a comma stands in double quotes."""
        field, equals, said = text.partition('=')
        if not equals or not said:
            raise UserError(f"'{text}' cannot be read: write FIELD=VALUE,VALUE, e.g. '{next(iter(self.known))}=1,2'")
        field = self.field(field.strip())
        return values(field, *(self._value(field, choice.strip()) for choice in next(csv.reader([said]))))

    def field(self, name: str) -> str:
        """The name as the configuration has it. Raises `UserError` with the nearest one."""
        name = name.replace('-', '_')
        if name not in self.known:
            raise unknown(f'field of {self.called}', name, self.known)
        return name

    def checked(self, sweep: Iterable[Point]) -> Sweep:
        """A sweep that was written in Python, its fields and types checked as those of the command line."""
        return [{f: self._parsed(f, flags({self.field(f): v}), v) for f, v in point.items()} for point in sweep]

    def _value(self, field: str, text: str) -> Any:
        old = self.known[field]
        if isinstance(old, bool) and text.lower() in ('true', 'false'):
            return text.lower() == 'true'
        return self._parsed(field, flags({field: text.split() if isinstance(old, (tuple, list)) else text}), text)

    def _parsed(self, field: str, words: list[str], said: Any) -> Any:
        try:
            config = tyro.cli(type(self.config), default=self.config, args=words, console_outputs=False)
        except SystemExit:
            raise UserError(
                f"{field}={said}: '{said}' is no {self._type(field)}; {self.called} has {field}={self.known[field]}"
            ) from None
        return flat(config)[field]

    def _type(self, field: str) -> str:
        *outer, last = field.split('.')
        config = self.config
        for name in outer:
            config = getattr(config, name)
        hint = typing.get_type_hints(type(config))[last]
        return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def declared(place: str) -> Sweep:
    """The sweep that FILE.py:NAME names; without a place, the one point that overrides nothing.

    Not a part of the experiment's own file: there, another sweep would be other code, and nothing trained would count.
    """
    if not place:
        return product()
    file, _, name = place.rpartition(':')
    if not file.endswith('.py') or not pathlib.Path(file).is_file():
        raise UserError(f"--use '{place}': give FILE.py:NAME, a file that is there and the name of a sweep in it")
    try:
        sweeps = runpy.run_path(file).get('sweeps', {})
    except Exception as error:
        raise UserError(f'{file} cannot be run: {error!r}') from error
    if name not in sweeps:
        raise unknown(f'sweep of {file}', name, sweeps)
    return sweeps[name]


def read_sweep(
    reader: Reader, over: Sequence[Group], together: Sequence[Group], each: Sequence[Group], written: Sweep
) -> Sweep:
    """The product of every --over, every --zip, what --each chains, and a sweep written in Python."""
    alone = [reader.sweep(text) for group in each for text in group]
    parts = [reader.sweep(text) for group in over for text in group]
    parts += [zipped(*(reader.sweep(text) for text in group)) for group in together]
    parts += [chain(*alone)] if alone else []
    parts += [reader.checked(written)]
    size = math.prod(len(part) for part in parts)
    if size > MOST_POINTS:
        raise UserError(f'the sweep has {size} points, {MOST_POINTS} are the most: take fewer values, or --zip some')
    return product(*parts)
