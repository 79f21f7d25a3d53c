"""Compiled for TPUs that are not here, by libtpu (`pip install 'kdjax[tpu]'`): what a step holds and what it sends."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

COMPILED = pathlib.Path(__file__).parents[2] / 'benchmarks/compiled.py'
SLICE = 'v5e:2x4'

pytestmark = pytest.mark.slow


def asked(*cases: str) -> dict:
    pytest.importorskip('libtpu')
    found = subprocess.run(
        [sys.executable, str(COMPILED), '--tpu', SLICE, *cases],
        env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'TPU_SKIP_MDS_QUERY': '1', 'ALLOW_MULTIPLE_LIBTPU_LOAD': '1'},
        capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    return json.loads(found.stdout.splitlines()[-1])


def test_blocks_computed_again_take_a_third_of_the_memory():
    """Of six blocks; every further block adds its input to one and all its activations to the other."""
    said = asked('deep', 'deep, again')
    assert said['deep, again']['temporary'] < said['deep']['temporary'] / 3


def test_fsdp_sends_weights_and_gradients_and_nothing_else():
    """Never logits, their cotangents or tokens. How often is not counted: a fusion of several parts repeats it."""
    said = asked('vit fsdp')['vit fsdp']
    assert said['student']['split'] > 0.99 * said['student']['all']
    assert {kind for kind, _ in said['collectives']} <= {'all-gather', 'all-reduce', 'reduce-scatter'}
    assert said['stray'] <= said['classes'], 'a bias of the classifier is the largest that has no shape of its own'
