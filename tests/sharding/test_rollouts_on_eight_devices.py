"""What a student writes, and what a memory keeps of it, is the same on any mesh."""

import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.mark.slow
def test_texts_do_not_depend_on_the_mesh():
    found = subprocess.run(
        [sys.executable, '-W', 'error', str(HERE / 'rollouts_on_eight.py')], cwd=HERE, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    for mesh, said in json.loads(found.stdout.splitlines()[-1]).items():
        assert said['written'] == 8, mesh
        assert said['tokens'] == 0, mesh
        assert said['weights'] < 1e-5, mesh
