"""What docs/condensing.md promises: every method that there is, commands that parse, records that load."""

import pathlib
import re

from kdjax.tasks.condensing.methods import METHODS

PAGE = (pathlib.Path(__file__).parents[2] / 'docs' / 'condensing.md').read_text()


def test_the_page_names_every_method_and_no_other():
    (listed,) = re.findall(r'the list\..*?\n\n(\|.*?)\n\n', PAGE, re.S)
    named = re.findall(r'`(\w+)`', ''.join(line.partition(' | ')[0] for line in listed.splitlines()))
    assert sorted(named) == sorted(METHODS)
