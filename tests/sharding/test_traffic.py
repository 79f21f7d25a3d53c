"""Sharding is what it says: the bytes that compiled steps send between devices, against the arithmetic of FSDP.

Let S be the bytes of a student's weights and T those of its teacher, as far as `fsdp` splits them. A step

- gathers every split weight once, for the forward and the backward pass together: S + T;
- reduces every gradient once: S. On CPU XLA reduces it whole and every device keeps its part, where other backends
  reduce and scatter at once; the bytes counted are those of the whole gradient in both. With a `data` axis beside,
  the parts are then summed along it, which is at most another S / fsdp;
- sends nothing else but metrics.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

COMPILED = pathlib.Path(__file__).parents[2] / 'benchmarks/compiled.py'
FAST = (
    'vit fsdp', 'mlp data', 'mlp data and fsdp', 'mlp whole teacher', 'mlp in parts', 'mlp ungathered', 'vit tensor',
)  # fmt: skip
LARGE = ('large fsdp', 'large data and fsdp', 'large all')


def asked(devices: int, cases: tuple[str, ...]) -> dict:
    found = subprocess.run(
        [sys.executable, '-W', 'error', str(COMPILED), *cases],
        env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(devices)},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    return json.loads(found.stdout.splitlines()[-1])


@pytest.fixture(scope='module')
def eight():
    return asked(8, FAST)


@pytest.fixture(scope='module')
def many():
    return asked(256, LARGE)


def check_fsdp(said: dict) -> None:
    assert said['gathered'] == pytest.approx(said['student']['split'] + said['teacher']['split'], rel=0.02)
    assert said['reduced'] == pytest.approx(said['student']['all'], rel=0.02)
    assert said['moved'] == 0
    assert said['stray'] < said['logits'] / 100


def check_two_axes(said: dict, fsdp: int) -> None:
    whole, split = said['student']['all'], said['student']['split']
    assert said['gathered'] == pytest.approx(split + said['teacher']['split'], rel=0.02)
    assert 0.98 * whole <= said['reduced'] <= 1.02 * (whole + split / fsdp)


@pytest.mark.parametrize('case', ['vit fsdp', 'mlp whole teacher', 'mlp in parts'])
def test_every_weight_is_gathered_once_and_every_gradient_reduced_once(eight, case):
    """In parts too: weights are gathered once for all parts, and the one reduction there is runs for each part."""
    said = eight[case]
    assert said['student']['split'] > 0.99 * said['student']['all']
    assert (said['teacher']['split'] > 0) == (case != 'mlp whole teacher')
    check_fsdp(said)


def test_copies_of_the_weights_gather_nothing(eight):
    said = eight['mlp data']
    assert said['gathered'] == said['moved'] == 0
    assert said['reduced'] == pytest.approx(said['student']['all'], rel=0.02)
    assert said['stray'] < 100


def test_beside_a_data_axis_the_parts_are_summed_once_more(eight):
    check_two_axes(eight['mlp data and fsdp'], fsdp=4)


def test_left_to_itself_xla_moves_logits(eight):
    """Why weights are gathered by name, and that the checks above can fail."""
    said = eight['mlp ungathered']
    assert said['gathered'] < 0.1 * said['student']['split']
    assert said['stray'] >= said['logits']
    with pytest.raises(AssertionError):
        check_fsdp(said)


def test_tensor_parallel_blocks_have_two_sums_forward_and_two_backward(eight):
    """Of the examples of a device, `[batch / shards, tokens, width]`; and no weight of a block is ever whole.

    Nothing else of a block is sent: queries, keys and values of a head stay on the device that computes with them.
    """
    said = eight['vit tensor']
    shapes = [(kind, tuple(shape)) for kind, shape in said['collectives']]
    mine = said['examples']
    activations = [(kind, shape) for kind, shape in shapes if len(shape) > 2 and shape[0] == mine]
    assert activations == [('all-reduce', (mine, 16, 64))] * 4 * said['depth']
    assert shapes.count(('all-gather', (64, 128))) == shapes.count(('all-gather', (128, 64))) == said['depth']
    assert not {(64, 256), (256, 64), (64, 192)} & {shape for _, shape in shapes}
    assert not any(said['classes'] in shape and 64 not in shape for kind, shape in shapes if len(shape) > 1)


@pytest.mark.slow
def test_on_256_devices(many):
    check_fsdp(many['large fsdp'])
    check_two_axes(many['large data and fsdp'], fsdp=64)


@pytest.mark.slow
@pytest.mark.parametrize('case', LARGE)
def test_on_256_devices_nobody_sends_logits(many, case):
    said = many[case]
    wide = [shape for _, shape in said['collectives'] if said['classes'] in shape]
    assert wide and all(256 in shape or len(shape) == 1 for shape in wide), 'the classifier, and nothing else'
