"""Compiled for TPUs that are not here, by libtpu (`pip install 'kdjax[tpu]'`): what a step holds and what it sends."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
SLICE = 'v5e:2x4'

pytestmark = pytest.mark.slow


def asked(*cases: str) -> dict:
    pytest.importorskip('libtpu')
    found = subprocess.run(
        [sys.executable, str(HERE / 'compiled.py'), '--tpu', SLICE, *cases], cwd=HERE,
        env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'TPU_SKIP_MDS_QUERY': '1', 'ALLOW_MULTIPLE_LIBTPU_LOAD': '1'},
        capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    return json.loads(found.stdout.splitlines()[-1])


def test_blocks_computed_again_take_a_third_of_the_memory():
    """Of six blocks; every further block adds its input to one and all its activations to the other."""
    said = asked('deep', 'deep, again')
    assert said['deep, again']['temporary'] < said['deep']['temporary'] / 3
