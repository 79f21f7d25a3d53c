"""A decoder split by heads, hidden units and vocabulary computes what one device does, and gathers nothing."""

import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def test_a_block_has_two_sums_and_no_array_is_gathered():
    found = subprocess.run(
        [sys.executable, '-W', 'error', str(HERE / 'decoder_on_eight.py')], cwd=HERE, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    said = json.loads(found.stdout.splitlines()[-1])
    assert said['loss'] < 1e-6
    assert said['slopes'] < 1e-5
    assert said['gathers'] == 0
    assert said['sums'] == 1 + 2 * 2  # the embedding's, and two in each block
