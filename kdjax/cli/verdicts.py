"""The table of verdicts, in Markdown: `python -m kdjax.cli.verdicts FILE` writes it between the file's marks."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from kdjax.cli.sites import all_records
from kdjax.errors import UserError
from kdjax.record import write_atomically

BEGIN, END = '<!-- verdicts -->\n', '<!-- /verdicts -->'
PERCENT = ('accuracy', 'agreement', 'ece')


def table(records: Sequence[dict[str, Any]]) -> str:
    """A row for each claim of each record."""
    rows = ['| experiment | claim | paired difference, 95 % interval | verdict |', '|---|---|---|---|']
    for record in records:
        for i, claim in enumerate(record['claims']):
            name = f'`{record["experiment"]}`' if i == 0 else ''
            rows.append(f'| {name} | {claim["text"]} | {_difference(claim)} | {claim["verdict"]} |')
    return '\n'.join(rows) + '\n'


def _difference(claim: dict[str, Any]) -> str:
    share = claim['metric'].rpartition('/')[2] in PERCENT
    scale, unit, digits = (100, ' pp', 2) if share else (1, '', 4)
    mean, low, high = ('–' if claim[k] is None else f'{scale * claim[k]:+.{digits}f}' for k in ('mean', 'low', 'high'))
    return f'{mean} [{low}, {high}]{unit}'


def write_into(path: pathlib.Path, records: Sequence[dict[str, Any]]) -> None:
    """Replace what stands between the marks."""
    text = path.read_text()
    if BEGIN not in text or END not in text:
        raise UserError(f'{path} has no marks {BEGIN.strip()} and {END}: put them where the table shall stand')
    before, _, rest = text.partition(BEGIN)
    write_atomically(path, before + BEGIN + table(records) + END + rest.partition(END)[2])


if __name__ == '__main__':
    write_into(pathlib.Path(sys.argv[1]), all_records())
