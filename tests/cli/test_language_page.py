"""docs/language.md keeps its word: its commands are read, its objectives and files exist, its numbers are counted."""

import re
import shlex
from pathlib import Path

import pytest

from kdjax.cli import distilling
from kdjax.cli.parsing import options
from kdjax.data import assets
from kdjax.losses.pointwise import NAMED
from kdjax.surgery import kept_layers
from kdjax.surgery.shrinking import read_sizes
from kdjax.tasks.objective_text import OWN, read_objective

PAGE = (Path(__file__).parents[2] / 'docs' / 'language.md').read_text()
BLOCKS = re.findall(r'```\n(.*?)```', PAGE, re.S)
COMMANDS = [line for block in BLOCKS for line in block.replace('\\\n', '').splitlines() if line.startswith('kdjax ')]
DISTILLED = [command for command in COMMANDS if command.startswith('kdjax distill')]


@pytest.mark.parametrize('command', DISTILLED)
def test_every_command_is_read(command):
    asked = options(distilling.Distill, 'distill', shlex.split(command)[2:])
    distilling._check(asked)
    assert read_objective(asked.objective)
    assert not asked.student.startswith('shrink:') or read_sizes(asked.student.removeprefix('shrink:'))


def test_the_asset_is_one():
    fetched = [command.split()[-1] for command in COMMANDS if command.startswith('kdjax data fetch')]
    assert fetched == ['smollm2-135m'] and set(fetched) <= set(assets.ASSETS)


def test_options_in_the_tables_exist():
    known = {f'--{name.replace("_", "-")}' for name in distilling.Distill.__dataclass_fields__}
    named = set(re.findall(r'`(--[a-z-]+)', PAGE)) | set(re.findall(r' (--[a-z-]+)', '\n'.join(DISTILLED)))
    assert named <= known and len(named) > 15


def test_objectives_in_the_tables_are_read_and_none_is_missing():
    names = re.findall(r'^\| (`\w+`(?:, `\w+`)*) \| .* \|', PAGE.split('## Objectives')[1].split('Each takes')[0], re.M)
    assert set(re.findall(r'\w+', ' '.join(names))) == set(NAMED)
    written = re.findall(r'^\| `([^`]+)` \| [^|]+ \|$', PAGE.split('Each takes')[1].split('## Words')[0], re.M)
    assert len([read_objective(text) for text in written]) == 4
    assert all(f'`{name}`' in PAGE for name in OWN)


def test_layers_that_are_kept():
    said = re.search(r'`shrink:layers=10` of 30 keeps blocks ([\d, ]+\d)', PAGE)
    assert said[1] == ', '.join(map(str, kept_layers(30, 10)))
