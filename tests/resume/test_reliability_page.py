"""The page on reliability: every test that it names is there, and every line of a list names one."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'reliability.md').read_text()
NAMED = re.findall(r'`((?:tests/\S+/)?(?:test_\w+\.py)?(?:::)?(?:(?:test_|Test)\w+)?)`', PAGE)


@pytest.mark.parametrize('named', sorted({n for n in NAMED if n}))
def test_a_test_that_is_named_exists(named):
    file, name = (named, '') if named.endswith('.py') else (named.rpartition('::')[0], named.rpartition('::')[2])
    places = [ROOT / file] if '/' in file else sorted(ROOT.glob(f'tests/**/{file or "test_*.py"}'))
    assert places and all(p.is_file() for p in places)
    kind = 'class' if name.startswith('Test') else 'def'
    assert not name or any(re.search(rf'^ *{kind} {name}\b', p.read_text(), re.MULTILINE) for p in places)


def test_every_promise_names_a_test():
    promises = [p for p in re.split(r'\n(?=\* )|\n\n', PAGE) if p.startswith('* ')]
    assert len(promises) > 10
    assert [p for p in promises if not re.search(r'`[^`]*[tT]est\w*[^`]*`', p)] == []
