"""Training on several processes is training on one: the same batches, the same losses, each reading its own rows."""

import json

import numpy as np
import pytest
import trained
from processes import run

from kdjax.data.batches import batch_indices
from kdjax.run.layout import single

IN_MEMORY, ON_DISK = ['', 'memory'], ['', 'disk']


@pytest.fixture(scope='module')
def environ(tmp_path_factory):
    return {'JAX_COMPILATION_CACHE_DIR': str(tmp_path_factory.mktemp('compilations'))}


def losses(said) -> np.ndarray:
    return np.array([float.fromhex(loss) for loss in said['losses']])


def together(folder, cases, environ, *, ranks, devices, steps=trained.STEPS):
    """What each rank says of the cases, after a look at the bits: all say the same of losses and batches."""
    program = f'import trained; trained.main({cases!r}, {steps})'
    ended = run(program, folder=folder, ranks=ranks, devices=devices, environ=environ, seconds=400)
    assert [rank.code for rank in ended] == [0] * ranks, ended
    ranks_said = [json.loads(rank.out.splitlines()[-1]) for rank in ended]
    for each in ranks_said:
        for mine, first in zip(each, ranks_said[0], strict=True):
            assert mine['losses'] == first['losses'] and mine['orders'] == first['orders']
    return ranks_said


def check_own_rows(ranks_said, steps) -> None:
    """Of every batch a process read those examples that its devices hold, and together they read each once."""
    wanted = batch_indices(trained.EXAMPLES, batch=trained.BATCH, seed=trained.SEED, first_step=0, steps=steps)
    parts = np.split(wanted, len(ranks_said), axis=1)
    for said, own in zip(ranks_said, parts, strict=True):
        assert sorted(said['read']) == sorted(own.tolist())


def test_two_processes_train_as_one(tmp_path, environ):
    said = together(tmp_path, [ON_DISK], environ, ranks=2, devices=1, steps=4)
    alone = trained.train(single(), trained.in_memory(), 4)
    assert said[0][0]['orders'] == alone['orders']
    np.testing.assert_allclose(losses(said[0][0]), losses(alone), rtol=0, atol=1e-6)
    check_own_rows([each[0] for each in said], 4)


@pytest.fixture(scope='module')
def one_by_eight(tmp_path_factory, environ):
    folder = tmp_path_factory.mktemp('alone')
    memory, disk = together(folder, [IN_MEMORY, ON_DISK], environ, ranks=1, devices=8)[0]
    assert memory['losses'] == disk['losses'] and memory['orders'] == disk['orders']
    return memory


@pytest.mark.slow
@pytest.mark.parametrize(('ranks', 'devices', 'mesh'), [(2, 2, 'data=2,fsdp=2'), (4, 2, 'fsdp=4,tensor=2')])
def test_every_rank_has_the_losses_of_one_process(ranks, devices, mesh, tmp_path, environ, one_by_eight, capsys):
    cases = [IN_MEMORY, ON_DISK, [mesh, 'memory'], [mesh, 'disk']]
    said = together(tmp_path, cases, environ, ranks=ranks, devices=devices)
    apart = []
    for i, (_, kind) in enumerate(cases):
        mine = said[0][i]
        assert mine['orders'] == one_by_eight['orders']
        apart.append(np.abs(losses(mine) - losses(one_by_eight)).max())
        assert apart[-1] < 1e-6
        if kind == 'disk':
            check_own_rows([each[i] for each in said], trained.STEPS)
    with capsys.disabled():
        print(f'\n{ranks} x {devices}: the same bits on every rank, from 1 x 8 at most {max(apart):.1e} in the loss')
