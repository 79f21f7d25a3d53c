"""Tables of verdicts, in Markdown: `python -m kdjax.cli.verdicts FILE...` writes them between the marks of each file.

Between `<!-- verdicts -->` and `<!-- /verdicts -->` stands every claim, between the marks `summary` every experiment.
"""

from __future__ import annotations

import pathlib
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from kdjax.cli.sites import all_records
from kdjax.errors import UserError
from kdjax.record import write_atomically

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


def summary(records: Sequence[dict[str, Any]]) -> str:
    """A row for each record: how many of its claims came out how."""
    rows = ['| experiment | | reproduced | inconclusive | contrary |', '|---|---|---|---|---|']
    for record in records:
        found = Counter(claim['verdict'] for claim in record['claims'])
        counts = ' | '.join(str(found[kind] or '') for kind in ('reproduced', 'inconclusive', 'contrary'))
        rows.append(f'| `{record["experiment"]}` | {record["title"]} | {counts} |')
    return '\n'.join(rows) + '\n'


TABLES: dict[str, Callable[[Sequence[dict[str, Any]]], str]] = {'verdicts': table, 'summary': summary}


def between(text: str, name: str) -> tuple[str, str, str]:
    """What stands before, between and after the marks of this name, each mark with the outside."""
    begin, end = f'<!-- {name} -->\n', f'<!-- /{name} -->'
    before, _, rest = text.partition(begin)
    inside, _, after = rest.partition(end)
    return before + begin, inside, end + after


def write_into(path: pathlib.Path, records: Sequence[dict[str, Any]]) -> None:
    """Replace what stands between the marks. Raises UserError on a file without any."""
    text = path.read_text()
    present = [name for name in TABLES if f'<!-- {name} -->\n' in text and f'<!-- /{name} -->' in text]
    if not present:
        marks = ', or '.join(f'<!-- {name} --> and <!-- /{name} -->' for name in TABLES)
        raise UserError(f'{path} has no marks: put {marks}, where the table shall stand')
    for name in present:
        before, _, after = between(text, name)
        text = before + TABLES[name](records) + after
    write_atomically(path, text)


if __name__ == '__main__':
    for name in sys.argv[1:]:
        write_into(pathlib.Path(name), all_records())
