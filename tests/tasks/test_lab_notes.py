"""What the docstring of an experiment says it measured is what its record says."""

import inspect
import json
import pathlib
import re

import pytest

from kdjax.metrics.paired import mean_interval
from kdjax.run.find import find, names

RESULTS = pathlib.Path(__file__).parents[2] / 'results'
NUMBER = r'([+-]\d+\.\d)'
QUOTED = re.compile(rf'(\w+) - (\w+) {NUMBER} \[{NUMBER}, {NUMBER}\]')
"""A paired difference of accuracy in points, with its interval."""


def note(name: str) -> str:
    return ' '.join((inspect.getdoc(find(name).module) or '').split())


@pytest.mark.parametrize('name', names())
def test_paired_differences_are_those_of_the_record(name):
    arms = json.loads((RESULTS / f'{find(name).name}.json').read_text())['arms']
    quoted = QUOTED.findall(note(name))
    assert quoted, 'a lab note says by how many points an arm differs from another'
    for left, right, *said in quoted:
        pairs = zip(arms[left]['metrics']['accuracy'], arms[right]['metrics']['accuracy'], strict=True)
        found = mean_interval([100 * (a - b) for a, b in pairs])
        assert [float(number) for number in said] == pytest.approx(list(found), abs=0.051), f'{left} - {right}'
