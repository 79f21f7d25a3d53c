"""What the docstring of an experiment says it measured is what its record says, or that there is none yet."""

import inspect
import json
import pathlib
import re

import pytest

from kdjax.metrics.paired import mean_interval
from kdjax.run.find import find, names

RESULTS = pathlib.Path(__file__).parents[2] / 'results'
NUMBER = r'([+-]\d+\.\d+)'
QUOTED = re.compile(rf'(\w+) - (\w+) {NUMBER} \[{NUMBER}, {NUMBER}\](?: (points )?of ([\w/]+))?')
"""A paired difference with its interval, 'of METRIC' or 'points of METRIC'; unless it says so, points of accuracy."""


def note(name: str) -> str:
    return ' '.join((inspect.getdoc(find(name).module) or '').split())


def record(name: str) -> pathlib.Path:
    return RESULTS / f'{find(name).name}.json'


@pytest.mark.parametrize('name', names())
def test_it_says_whether_there_is_a_record(name):
    assert ('not verified yet' in note(name).lower()) != record(name).exists()


@pytest.mark.parametrize('name', [name for name in names() if record(name).exists()])
def test_paired_differences_are_those_of_the_record(name):
    arms = json.loads(record(name).read_text())['arms']
    quoted = QUOTED.findall(note(name))
    assert quoted, 'a lab note says by how much an arm differs from another'
    for left, right, *said, points, metric in quoted:
        pairs = zip(*(arms[arm]['metrics'][metric or 'accuracy'] for arm in (left, right)), strict=True)
        scale = 100 if points or not metric else 1
        found = mean_interval([scale * (a - b) for a, b in pairs if None not in (a, b)])
        half = 0.51 * 10.0 ** -len(said[0].partition('.')[2])
        assert [float(number) for number in said] == pytest.approx(list(found), abs=half), f'{left} - {right}'
