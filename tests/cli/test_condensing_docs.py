"""What docs/condensing.md promises: every method that there is, and the fair table as its record has it."""

import json
import pathlib
import re
import statistics

import pytest

from kdjax.report.condensing import rows, students
from kdjax.tasks.condensing.methods import METHODS

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'condensing.md').read_text()
TABLES = ROOT / 'results' / 'condensation' / 'table'


def test_the_page_names_every_method_and_no_other():
    (listed,) = re.findall(r'the list\..*?\n\n(\|.*?)\n\n', PAGE, re.S)
    named = re.findall(r'`(\w+)`', ''.join(line.partition(' | ')[0] for line in listed.splitlines()))
    assert sorted(named) == sorted(METHODS)


@pytest.mark.parametrize('place, name', [(0, 'digits'), (1, 'mnist5k')])
def test_the_fair_tables_are_those_of_their_records(place, name):
    record = json.loads((TABLES / f'{name}.json').read_text())
    assert f'{len(record["seeds"])} seed' in PAGE.partition('## The fair table')[2]
    found = re.findall(r'^\| method .*?\n\n', PAGE, re.S | re.M)[place]
    head, _, *shown = found.strip().splitlines()
    assert head == f'| method | images a class | {" | ".join(students(record))} | stored | LRS |'
    assert shown == [_line(row, students(record)) for row in rows(record)]


def _line(row, whose):
    """Accuracy by hard and by soft labels of each student in per cent, bytes, LRS."""

    def mean(values, scale=1, digits=1):
        return f'{scale * statistics.mean(values):.{digits}f}' if values else '–'

    pairs = (' / '.join(mean(row.metrics[m], 100) for m in metrics) for metrics in whose.values())
    kept = mean(row.metrics.get('stored_bytes'), digits=0)
    return f'| {row.method} | {row.size} | {" | ".join(pairs)} | {kept} | {mean(row.scores.get("lrs"), digits=2)} |'
