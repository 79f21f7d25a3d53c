"""Sharding is what it says: the bytes that compiled steps send between devices, against the arithmetic of FSDP.

Let S be the bytes of a student's weights and T those of its teacher, as far as `fsdp` splits them. A step

- gathers every split weight once, for the forward and the backward pass together: S + T;
- reduces every gradient once: S. On CPU XLA reduces it whole and every device keeps its part, where other backends
  reduce and scatter at once; the bytes counted are those of the whole gradient in both. With a `data` axis beside,
  the parts are then summed along it, which is at most another S / fsdp;
- sends nothing else but metrics.
"""

import json
import math
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
FAST = (
    'vit fsdp', 'mlp data', 'mlp data and fsdp', 'mlp whole teacher', 'mlp in parts', 'mlp ungathered', 'vit tensor',
)  # fmt: skip
LARGE = ('large fsdp', 'large data and fsdp', 'large all')
REDUCED = ('all-reduce', 'reduce-scatter')


def asked(devices: int, cases: tuple[str, ...]) -> dict:
    found = subprocess.run(
        [sys.executable, '-W', 'error', str(HERE / 'compiled.py'), *cases],
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


def sent(said: dict, *kinds: str) -> int:
    return sum(c['bytes'] for c in said['collectives'] if c['kind'] in kinds)


def weighed(weights: list, *, split: bool) -> int:
    """Bytes of float32 weights: of those that `fsdp` splits, or of all."""
    return sum(4 * math.prod(shape) for shape, is_split in weights if is_split or not split)


def strays(said: dict) -> int:
    """Elements of the largest collective, arrays with the shape of a weight left out."""

    def form(shape):
        return tuple(sorted(size for size in shape if size > 1))

    weights = {form(shape) for shape, _ in said['student'] + said['teacher']}
    left = ([a['shape'] for a in c['arrays'] if form(a['shape']) not in weights] for c in said['collectives'])
    return max(sum(map(math.prod, shapes)) for shapes in left)


def share_of_logits(said: dict) -> int:
    """Elements of the logits that belong to the examples of one device."""
    return said['batch'] * said['classes'] // said['shards']


def check_fsdp(said: dict) -> None:
    student, teacher = (weighed(said[who], split=True) for who in ('student', 'teacher'))
    assert sent(said, 'all-gather') == pytest.approx(student + teacher, rel=0.02)
    assert sent(said, *REDUCED) == pytest.approx(weighed(said['student'], split=False), rel=0.02)
    assert sent(said, 'all-to-all', 'collective-permute') == 0
    assert strays(said) < share_of_logits(said) / 100


def check_two_axes(said: dict, fsdp: int) -> None:
    student, teacher = (weighed(said[who], split=True) for who in ('student', 'teacher'))
    whole = weighed(said['student'], split=False)
    assert sent(said, 'all-gather') == pytest.approx(student + teacher, rel=0.02)
    assert 0.98 * whole <= sent(said, *REDUCED) <= 1.02 * (whole + student / fsdp)


@pytest.mark.parametrize('case', ['vit fsdp', 'mlp whole teacher', 'mlp in parts'])
def test_every_weight_is_gathered_once_and_every_gradient_reduced_once(eight, case):
    """In parts too: weights are gathered once for all parts, and the one reduction there is runs for each part."""
    said = eight[case]
    assert weighed(said['student'], split=True) > 0.99 * weighed(said['student'], split=False)
    assert (weighed(said['teacher'], split=True) > 0) == (case != 'mlp whole teacher')
    check_fsdp(said)


def test_copies_of_the_weights_gather_nothing(eight):
    said = eight['mlp data']
    assert sent(said, 'all-gather', 'all-to-all', 'collective-permute') == 0
    assert sent(said, *REDUCED) == pytest.approx(weighed(said['student'], split=False), rel=0.02)
    assert strays(said) < 100


def test_beside_a_data_axis_the_parts_are_summed_once_more(eight):
    check_two_axes(eight['mlp data and fsdp'], fsdp=4)


def test_left_to_itself_xla_moves_logits(eight):
    """Why weights are gathered by name, and that the checks above can fail."""
    said = eight['mlp ungathered']
    assert sent(said, 'all-gather') < 0.1 * weighed(said['student'], split=True)
    assert strays(said) >= share_of_logits(said)
    with pytest.raises(AssertionError):
        check_fsdp(said)


def test_tensor_parallel_blocks_have_two_sums_forward_and_two_backward(eight):
    """Of the examples of a device, `[batch / shards, tokens, width]`; and no weight of a block is ever whole.

    Nothing else of a block is sent: queries, keys and values of a head stay on the device that computes with them.
    """
    said = eight['vit tensor']
    shapes = [(c['kind'], tuple(a['shape'])) for c in said['collectives'] for a in c['arrays']]
    mine = said['batch'] // said['shards']
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
    wide = [a['shape'] for c in said['collectives'] for a in c['arrays'] if said['classes'] in a['shape']]
    assert wide and all(256 in shape or len(shape) == 1 for shape in wide), 'the classifier, and nothing else'
