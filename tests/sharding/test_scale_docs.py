"""docs/scale.md promises what tests hold and shows options that there are."""

import dataclasses
import pathlib
import re

import pytest

from kdjax.cli.machine import Machine
from kdjax.cli.verifying import Verify
from kdjax.run.layout import MeshShape, read_mesh

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'scale.md').read_text()
NAMED = sorted(set(re.findall(r'`(?:([\w/]+\.py)::)?((?:test_|Test)\w+)`', PAGE)))


@pytest.mark.parametrize(('file', 'name'), NAMED, ids=lambda part: part.rpartition('/')[2])
def test_every_test_it_names_is_there(file, name):
    path = ROOT / file if file.startswith('tests/') else ROOT / 'tests' / 'sharding' / file
    text = '\n'.join(p.read_text() for p in ([path] if file else path.glob('*.py')) if p != pathlib.Path(__file__))
    folder = ROOT / 'tests' / 'algorithms'
    text += '' if file else '\n'.join(p.read_text() for p in folder.glob('*.py'))
    assert re.search(rf'^\s*(def|class) {name}\b', text, re.MULTILINE), f'{file} {name}'


def test_it_names_many():
    assert len(NAMED) >= 12


def test_every_option_it_shows_is_one():
    shown = {flag.replace('-', '_') for flag in re.findall(r'--([a-z][a-z-]*)', PAGE)}
    assert shown == {field.name for field in dataclasses.fields(Machine)} | {'seeds_at_once', 'out'}
    assert shown <= {field.name for field in dataclasses.fields(Verify)}


def test_its_command_has_a_mesh_that_reads():
    both = [read_mesh(mesh) for mesh in re.findall(r'--mesh (\S+)', PAGE)]
    assert both == [MeshShape(2, 4, 1), MeshShape(2)]
