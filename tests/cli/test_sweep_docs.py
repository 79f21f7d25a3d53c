"""docs/sweeps.md keeps its word: its command makes the trials that it says, its file holds the sweeps that it shows."""

import re
from pathlib import Path

import pytest

from kdjax.cli.main import main
from kdjax.cli.overrides import declared

DOCS = (Path(__file__).parents[2] / 'docs' / 'sweeps.md').read_text()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_first_command(capsys):
    (command,) = re.findall(r'```\nkdjax (sweep .*)\n```', DOCS)
    assert main([*command.split(), '--dry-run']) == 0
    assert '8 x 3 seeds = 24 trials' in capsys.readouterr().out
    assert 'makes 4 x 2 points with 3 seeds each, 24 trials' in DOCS


@pytest.mark.parametrize('row', re.findall(r'\| `(--(?:over|zip|each) [^`]*)` \|.* (\d) points', DOCS))
def test_the_sizes_in_the_table(row, capsys):
    options, points = row
    options = options.replace('a=1,2', 'batch=1,2').replace('b=3,4', 'steps=3,4')
    assert main(['sweep', 'quickstart', *options.split(), '--dry-run', '--seeds', '1']) == 0
    assert f'{points} x 1 seeds = {points} trials' in capsys.readouterr().out


def test_the_file_of_sweeps(tmp_path):
    (block,) = re.findall(r'```python\n(.*?)```', DOCS, re.S)
    (tmp_path / 'points.py').write_text(block)
    assert len(declared('points.py:coarse')) == 4
    assert declared('points.py:fine')[3:] == [
        {'optimizer.rate': 1e-3, 'optimizer.decay': 0.1}, {'optimizer.rate': 2e-3, 'optimizer.decay': 0.05},
    ]  # fmt: skip
