"""No damaged checkpoint is loaded: automatic mode goes back and names the path, an explicit step is refused."""

import json
import shutil

import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest
from states import opened, same, saved, state_at

from kdjax.errors import UserError


def largest(step):
    """The file that holds the arrays."""
    return max((step / 'state' / 'd').iterdir(), key=lambda p: p.stat().st_size)


def truncated(step):
    path = largest(step)
    path.write_bytes(path.read_bytes()[:-1])
    return path


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def removed(path):
    path.unlink()
    return path


def without_manifest(step):
    (step / 'manifest.json').unlink()
    return step


def emptied(step):
    shutil.rmtree(step)
    step.mkdir()
    return step


def foreign(step):
    emptied(step)
    (step / 'model.safetensors').write_bytes(b'0' * 64)
    return step


def of_another_type(step):
    """Another whole Orbax checkpoint in the place of ours: it would load."""
    shutil.rmtree(step / 'state')
    state = state_at(2)
    state['variables']['student']['params']['a'] = state['variables']['student']['params']['a'].astype(jnp.float16)
    with ocp.StandardCheckpointer() as writer:
        writer.save(step / 'state', state)
    return step / 'state'


def manifest_of_another_step(step):
    shutil.copy(step.parent / '1' / 'manifest.json', step / 'manifest.json')
    return step / 'manifest.json'


def renamed_in_the_manifest(step):
    path = step / 'manifest.json'
    path.write_text(path.read_text().replace('params/a', 'params/b'))
    return path


def not_json(step):
    (step / 'manifest.json').write_text('{"sha256": ')
    return step / 'manifest.json'


CASES = {
    'a truncated file': (truncated, 'bytes instead of'),
    'a flipped byte': (lambda step: flipped(largest(step)), 'its sha256 is not that of the manifest'),
    'a flipped byte beside the state': (lambda step: flipped(step / 'beside.npz'), 'its sha256 is not'),
    'a flipped byte in the manifest': (lambda step: flipped(step / 'manifest.json'), ''),
    'no manifest': (without_manifest, 'there is no manifest.json: not a checkpoint, or one that was never finished'),
    'half a manifest': (not_json, 'it cannot be read'),
    'no array file': (lambda step: removed(largest(step)), 'the file is missing'),
    'no metadata': (lambda step: removed(step / 'state' / '_METADATA'), 'the file is missing'),
    'an empty folder': (emptied, 'there is no manifest.json'),
    'a foreign folder': (foreign, 'there is no manifest.json'),
    'arrays of another type': (of_another_type, ''),
    'a parameter renamed in the manifest': (renamed_in_the_manifest, 'it does not have its own digest'),
    'the manifest of another step': (manifest_of_another_step, 'it is the manifest of step 1, not of 2'),
}


@pytest.mark.parametrize('case', CASES)
def test_automatic_mode_goes_back_one_step_and_names_the_path_and_an_explicit_step_is_refused(case, tmp_path):
    damage, message = CASES[case]
    saved(tmp_path, 1, 2)
    path = damage(tmp_path / '2')
    lines = []
    there = opened(tmp_path, lines)
    step, state = there.restore(None, state_at(0))
    assert step == 1 and same(state, state_at(1))
    (line,) = lines
    assert line.startswith('checkpoint of step 2 is damaged: ') and str(path) in line and message in line
    assert 'Going back to the one before it' in line
    with pytest.raises(UserError) as error:
        there.restore(2, state_at(0))
    assert str(error.value).startswith('the checkpoint of step 2 is damaged: ') and str(path) in str(error.value)
    assert 'Choose another step, or --resume auto' in str(error.value)


def test_two_damaged_ones_are_both_named_and_the_third_is_taken(tmp_path):
    saved(tmp_path, 1, 2, 3, keep=3)
    flipped(largest(tmp_path / '3'))
    without_manifest(tmp_path / '2')
    lines = []
    step, state = opened(tmp_path, lines).restore(None, state_at(0))
    assert step == 1 and same(state, state_at(1))
    assert ['step 3' in lines[0], 'step 2' in lines[1], len(lines)] == [True, True, 2]


def test_when_none_is_whole_nothing_is_started_over_unasked(tmp_path):
    saved(tmp_path, 1, 2)
    for step in (1, 2):
        truncated(tmp_path / str(step))
    with pytest.raises(UserError) as error:
        opened(tmp_path).restore(None, state_at(0))
    assert f'none of the 2 checkpoints in {tmp_path} is whole' in str(error.value)
    assert 'move that folder away to start over from step 0' in str(error.value)


def test_a_damaged_step_is_written_anew_when_the_run_comes_by(tmp_path):
    saved(tmp_path, 1, 2)
    truncated(tmp_path / '2')
    there = saved(tmp_path, 2)
    assert same(there.restore(2, state_at(0))[1], state_at(2))


def changed(change):
    state = state_at(0)
    change(state['variables']['student']['params'])
    return state


A = "'variables/student/params/a' is "
PROGRAMS = {
    'shape': (lambda p: p.update(a=jnp.zeros((4, 5))), A + 'float32[4,3] there and float32[4,5] in this program'),
    'dtype': (
        lambda p: p.update(a=jnp.zeros((4, 3), jnp.bfloat16)),
        A + 'float32[4,3] there and bfloat16[4,3] in this program',
    ),
    'name': (lambda p: p.update(b=p.pop('a')), "params/b' is missing there and float32[4,3] in this program"),
    'more': (lambda p: p.update(z=jnp.zeros(2)), "params/z' is missing there and float32[2] in this program"),
    'less': (lambda p: p.pop('a'), A + 'float32[4,3] there and missing in this program'),
}


@pytest.mark.parametrize('step', [None, 2])
@pytest.mark.parametrize('case', PROGRAMS)
def test_the_state_of_another_program_is_refused_in_every_mode_with_the_first_difference(case, step, tmp_path):
    change, message = PROGRAMS[case]
    there = saved(tmp_path, 1, 2)
    with pytest.raises(UserError) as error:
        there.restore(step, changed(change))
    assert f'{tmp_path / "2"} is of another program: ' in str(error.value) and message in str(error.value)
    assert 'Choose another --out' in str(error.value)


def test_a_manifest_of_another_version_is_damage(tmp_path):
    from kdjax.run.identity import digest

    saved(tmp_path, 1)
    path = tmp_path / '1' / 'manifest.json'
    body = json.loads(path.read_text()) | {'version': 99}
    del body['sha256']
    path.write_text(json.dumps({'sha256': digest(body), **body}))
    with pytest.raises(UserError, match='it is of version 99, this kdjax reads version 1'):
        opened(tmp_path).restore(1, state_at(0))
