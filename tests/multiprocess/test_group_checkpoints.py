"""Checkpoints of several processes: one folder, one manifest, and every process does as rank 0 does."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from processes import run

from kdjax.run.checkpoints import Checkpoints, Policy

PROGRAM = """
import json, pathlib, sys
from kdjax.run.group import distributed
distributed.start()
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from kdjax.run import checkpoints as module
from kdjax.run.checkpoints import Checkpoints, Policy

mesh = jax.sharding.Mesh(np.array(jax.devices()), ('data',))

def place(array, spec):
    return jax.make_array_from_callback(array.shape, NamedSharding(mesh, spec), lambda index: array[index])

def state_at(step):
    whole = np.arange(8, dtype=np.float32).reshape(4, 2) + step
    return {{'step': place(np.int32(step), P()), 'w': place(whole, P('data')), 'c': place(whole, P())}}

def told(state):
    return {{name: [np.asarray(s.data).tolist() for s in leaf.addressable_shards] for name, leaf in state.items()}}

lines = []
there = Checkpoints(pathlib.Path({folder!r}), policy=Policy(keep=9), asynchronous={asynchronous}, report=lines.append)
double = jax.jit(lambda s: jax.tree.map(lambda a: a * 2, s), donate_argnums=0)

for step in (1, 2):
    state = state_at(step)
    there.save(step, state)
    double(state)
room = module._check_room
def full(folder, size):
    raise OSError(28, 'No space left on device')
module._check_room = full
there.save(3, state_at(3))
module._check_room = room
there.save(4, state_at(4))
there.wait()
distributed.barrier('saved')
if distributed.is_writer():
    (there.folder / '4' / 'beside.npz').write_bytes(b'')
step, state = there.restore(None, state_at(0))
assert told(state) == told(state_at(step)), told(state)
print(json.dumps([step, lines]), flush=True)
there.close()
sys.exit(distributed.leave(0))
"""


@pytest.mark.parametrize('asynchronous', [True, False], ids=['async', 'sync'])
def test_two_processes_save_pass_over_and_go_back_together(asynchronous, tmp_path):
    """Step 3 finds no room on rank 0, so neither writes it; step 4 is damaged, so both go back to 2."""
    folder = tmp_path / 'checkpoints'
    program = PROGRAM.format(folder=str(folder), asynchronous=asynchronous)
    ended = run(program, folder=tmp_path / 'output', ranks=2, devices=2)
    assert [e.code for e in ended] == [0, 0], ended
    (first, lines), (second, silent) = (json.loads(e.out.splitlines()[-1]) for e in ended)
    assert (first, second, silent) == (2, 2, [])
    assert lines[0].startswith('step 3 was not saved (OSError: [Errno 28] No space left') and len(lines) == 2
    assert lines[1].startswith('checkpoint of step 4 is damaged: ')
    assert sorted(p.name for p in folder.iterdir()) == ['1', '2', '4']
    like = {'step': jnp.int32(0), 'w': jnp.zeros((4, 2)), 'c': jnp.zeros((4, 2))}
    step, state = Checkpoints(folder, policy=Policy(keep=9)).restore(1, like)
    assert step == 1
    for name in ('w', 'c'):
        np.testing.assert_array_equal(state[name], np.arange(8, dtype=np.float32).reshape(4, 2) + 1)
    assert jax.process_count() == 1
