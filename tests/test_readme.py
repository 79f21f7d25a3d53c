"""What the README promises: its loss goes through `verify`, its links lead somewhere, its table is the records'."""

import json
import pathlib
import re

import pytest

from kdjax import record
from kdjax.cli.main import main
from kdjax.cli.verdicts import TABLES, between

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()


def test_the_loss_of_the_readme_goes_through_verify(tmp_path, monkeypatch, capsys):
    for name in ('KDJAX_CACHE', 'KDJAX_STORE'):
        monkeypatch.setenv(name, str(tmp_path / name))
    (block,) = re.findall(r'```python\n(.*?)```', README, re.S)
    file = tmp_path / 'mine' / 'cubic.py'
    file.parent.mkdir()
    file.write_text(block)
    short = ['--steps', '20', '--teacher-steps', '20', '--teacher', 'mlp-16', '--student', 'mlp-8']
    code = main(['verify', str(file), '--seeds', '2', '--json', *short])
    made = json.loads(capsys.readouterr().out)
    assert made['experiment'] == 'mine/cubic'
    assert code in (0, 3)
    assert [c['text'] for c in made['claims']] == ['cubic > kd on accuracy']


@pytest.mark.parametrize('link', re.findall(r'\]\(([^)#]+)\)', README))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize('page, name', [('README.md', 'summary'), ('docs/experiments.md', 'verdicts')])
def test_the_table_of_verdicts_is_that_of_the_records(page, name):
    rows = [record.load(p) for p in sorted((ROOT / 'results').glob('*/*.json'))]
    _, inside, _ = between((ROOT / page).read_text(), name)
    assert inside == TABLES[name](rows), f'write it anew: python -m kdjax.cli.verdicts {page}'
