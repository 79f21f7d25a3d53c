"""docs/launching.md: every command is run and prints what the page says; what it promises, a test holds."""

import re

import pytest
from documented import PAGE, ROOT, examples, normalised, run

from launch.main import VERBS
from launch.places import PLACES

EXAMPLES = examples(PAGE.read_text())


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """One folder for the whole page: its commands build on one another."""
    return tmp_path_factory.mktemp('page')


def test_every_documented_command_prints_what_the_page_says(folder):
    """All in one test, since they follow one another."""
    for example in EXAMPLES:
        shown = run(example, folder)
        assert shown == normalised(example.output), 'write it anew: python tests/launch/documented.py'
    assert not list(folder.glob('runs/launch/kd-*')), 'a dry run wrote something'


@pytest.mark.parametrize('place', PLACES)
def test_every_place_has_a_command(place):
    assert any(f'python -m launch {place} ' in example.command for example in EXAMPLES)


@pytest.mark.parametrize('verb', [verb for verb in VERBS if verb != 'submit'])
def test_every_verb_has_a_command(verb):
    assert any(re.search(rf'python -m launch \w+ {verb}\b', example.command) for example in EXAMPLES)


def test_the_tests_that_the_page_names_exist():
    named = re.findall(r'`(tests/[\w/]+\.py)(?:::(\w+))?`', PAGE.read_text())
    assert len(named) >= 10
    for path, test in named:
        text = (ROOT / path).read_text()
        assert not test or f'def {test}(' in text, f'{path}::{test}'


def test_normalising_leaves_the_rest_alone():
    assert normalised('[1] b\n[0] a\nx\n[0] c\n') == '[0] a\n[0] c\nx\n[1] b\n'
    assert normalised('at 127.0.0.1:4711 after 12.3 s') == 'at 127.0.0.1:PORT after SECONDS s'
    assert normalised('exit code 75 of 10.0.0.1:80') == 'exit code 75 of 10.0.0.1:80'
