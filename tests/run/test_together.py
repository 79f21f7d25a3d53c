"""Seeds as one program give what each gives alone, wherever they live."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
import tiny
from jax.sharding import AbstractMesh
from tiny import CLASSES, counting, dataset, mlp

from kdjax import teachers
from kdjax.algorithms import supervised
from kdjax.data.batches import batch_indices
from kdjax.data.dataset import ArraySource
from kdjax.errors import UserError
from kdjax.objectives import hard_labels, kl
from kdjax.run.diverged import Diverged
from kdjax.run.fit import Events, fit, predict
from kdjax.run.layout import AXES, Layout, single
from kdjax.run.program import Program
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.run.together import Together, places
from kdjax.run.verify import Verification, verify
from kdjax.stage import Compute

SEEDS, SGD = (0, 1, 5), optax.sgd(0.1, momentum=0.9)
HERE = pathlib.Path(__file__).parent


class OnDisk:
    """The same examples, one row of indices at a time."""

    arrays = None

    def __init__(self, source):
        self._source = source

    def __len__(self):
        return len(self._source)

    def take(self, indices):
        assert np.ndim(indices) == 1
        return self._source.take(indices)


def close(several, alone):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), several, alone)


def ran(program, seed, source, frozen):
    return fit(program, source, batch=4, steps=7, seed=seed, frozen=frozen, events=Events()).state


@pytest.mark.parametrize('read', [lambda source: source, OnDisk], ids=['memory', 'disk'])
def test_each_seed_is_what_it_is_alone_in_one_trace(read):
    """With a table that all share, and a teacher of its own for each."""
    calls, source = [], read(dataset()['train'])
    taught = {'table': teachers.cached('table'), 'teacher': teachers.live(mlp(4))}
    objective = hard_labels() + kl('student', 'table', name='kl_table') + kl()
    algorithm = supervised(counting(mlp(), calls, 'apply'), objective, SGD, teachers=taught)
    table = np.random.default_rng(0).standard_normal((24, CLASSES)).astype(np.float32)
    each = [mlp(4).init(jax.random.key(90 + seed), np.zeros((1, 2, 2, 1), np.float32)) for seed in SEEDS]
    several = Together(algorithm, 3, layout=single(), per_seed=['teacher'], chunk=4)
    frozen = several.place({'table': table, 'teacher': jax.tree.map(lambda *x: np.stack(x), *each)})
    for _ in range(2):
        state = ran(several, SEEDS, source, frozen)
    assert calls == ['apply']
    said = predict(several, state, frozen, dataset()['test'], seed=SEEDS)
    alone = Program(algorithm, chunk=4)
    for i, seed in enumerate(SEEDS):
        own = {'table': table, 'teacher': each[i]}
        expected = ran(alone, seed, source, own)
        close(jax.tree.map(lambda x, i=i: x[i], state), expected)
        close({n: v[i] for n, v in said.items()}, predict(alone, expected, own, dataset()['test'], seed=seed))


def graded():
    """An arm that learns from a middle model of its own seed, by way of a table of it."""
    middle = tiny.train(supervised(mlp(4), hard_labels(), SGD), name='middle')

    def call(inputs, *, key):
        image = dataset()['train']['image']
        return {'logits': np.asarray(mlp(4).apply(inputs['model'], image, key=key, train=False)[0].prediction)}

    table = Compute(
        name='table', module='tiny', config={}, call=call, inputs={'model': middle['variables']['student']}
    )
    taught = {'teacher': teachers.live(mlp(4)), 'table': teachers.cached('table')}
    algorithm = supervised(mlp(), hard_labels() + kl() + kl('student', 'table', name='kl_table'), SGD, teachers=taught)
    inputs = {'teacher': middle['variables']['student'], 'table': table['logits']}
    return tiny.train(algorithm, name='arm/graded', inputs=inputs)


class TestExecutor:
    def test_what_a_seed_reads_of_its_own_is_made_together_too(self, tmp_path):
        said, stage = [], graded()
        several = Executor(Store(tmp_path), module='tiny', say=said.append, at_once=2)
        made = several.run_all(stage, [3, 4])
        assert said == [
            'training middle, seeds 3, 4: 6 steps', 'computing table', 'computing table',
            'training arm/graded, seeds 3, 4: 6 steps',
        ]  # fmt: skip
        alone = Executor(Store(tmp_path), module='tiny')
        for artifact, seed in zip(made, (3, 4), strict=True):
            expected = alone.run(stage, seed)
            assert artifact.digest != expected.digest, 'it tells how it was made'
            close(artifact.arrays, expected.arrays)
            assert artifact.info['curves'].keys() == expected.info['curves'].keys()
            assert artifact.info['cost'].keys() == expected.info['cost'].keys()
            assert artifact.info['metrics']['test']['nll'] == pytest.approx(expected.info['metrics']['test']['nll'])
        assert made[0].info['state_sha256'] != made[1].info['state_sha256']

    def test_places_that_are_left_train_the_last_seed_again_and_nothing_is_trained_twice(self, tmp_path):
        said, stage = [], tiny.train(supervised(mlp(), hard_labels(), SGD), name='arm')
        executor = Executor(Store(tmp_path), module='tiny', say=said.append, at_once=3)
        assert [a.digest for a in executor.run_all(stage, [0, 1])] == [executor.digest(stage, s) for s in (0, 1)]
        executor.run_all(stage, [0, 1, 2])
        executor.run(stage, 2)
        assert said == ['training arm, seeds 0, 1: 6 steps', 'training arm, seed 2: 6 steps']
        assert len(list(tmp_path.iterdir())) == 3

    def test_a_number_that_is_not_finite_is_traced_to_its_seed(self, tmp_path):
        train = dataset()['train']
        steps = {s: batch_indices(24, batch=4, seed=s, first_step=0, steps=2).ravel().tolist() for s in range(3)}
        bad = next(i for i in steps[1] if i not in steps[0] + steps[2])
        image = train['image'].copy()
        image[bad] = np.nan
        data = dataset()
        splits = {**data.splits, 'train': ArraySource({'image': image, 'label': train['label']})}
        broken = dataclasses.replace(data, splits=splits)
        stage = tiny.train(supervised(mlp(), hard_labels(), SGD), name='arm/bad', steps=2, data=broken)
        step, place = divmod(steps[1].index(bad), 4)
        term = "'student/hard_labels' is nan"
        expected = rf'^arm/bad, seed 1: step {step}: {term}; first bad leaf: batch/image\[{place},'
        with pytest.raises(Diverged, match=expected):
            Executor(Store(tmp_path), module='tiny', at_once=3).run_all(stage, [0, 1, 2])


def test_a_verification_of_seeds_at_once_says_so_and_agrees(tmp_path):
    def asked(seeds_at_once):
        return Verification(
            'tests/tiny', 'tiny', tiny.experiment, tiny.Settings(), 3, seeds_at_once=seeds_at_once
        )

    told: list[tuple[int, int, str]] = []
    several = verify(asked(2), store=Store(tmp_path), progress=lambda *given: told.append(given))
    assert told == [
        (0, 6, 'labels, seeds 0, 1'), (2, 6, 'kd, seeds 0, 1'), (4, 6, 'labels, seed 2'), (5, 6, 'kd, seed 2'),
        (6, 6, 'done'),
    ]  # fmt: skip
    alone = verify(asked(1), store=Store(tmp_path))
    assert several['identity'] == alone['identity'] | {'seeds_at_once': 2}
    agree(several, alone)


def agree(several, alone):
    assert several['verdict'] == alone['verdict']
    for name, arm in alone['arms'].items():
        for metric, values in arm['metrics'].items():
            np.testing.assert_allclose(several['arms'][name]['metrics'][metric], values, atol=1e-6)


@pytest.mark.slow
def test_on_devices():
    """Two seeds on each of two, or one on each of three of four, where it is bit for bit what it is alone."""
    found = subprocess.run(
        [sys.executable, '-W', 'error', str(HERE / 'devices.py')], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr[-3000:]
    said = json.loads(found.stdout.splitlines()[-1])
    alone = said['alone']
    for devices in ('2', '4'):
        several = said[devices]
        assert several['said'] == [
            'training teacher, seed 0: 20 steps', 'computing said', 'training arm/labels, seeds 0, 1, 2: 6 steps',
            'training arm/kd, seeds 0, 1, 2: 6 steps',
        ]  # fmt: skip
        assert several['again'] == []
        assert several['sent'] == [['all-gather', [50, 4]]], 'the metrics of a chunk and nothing else'
        record = several['record']
        assert record['identity']['seeds_at_once'] == 4
        assert record['verdict'] == alone['verdict']
        np.testing.assert_allclose(*(r['arms']['labels']['metrics']['nll'] for r in (record, alone)), atol=1e-6)
    one_each = said['4']['record']
    assert one_each['arms']['labels']['state_sha256'] == alone['arms']['labels']['state_sha256']


@pytest.mark.parametrize(
    ('shape', 'own', 'what'),
    [((2, 2, 1), (), 'fsdp=2'), ((1, 1, 2), (), 'tensor=2'), ((2, 1, 1), (('a', ('data',)),), '--shard')],
)
def test_models_that_are_split_are_refused(shape, own, what):
    with pytest.raises(UserError, match=f'5 seeds at once with {what}: each seed lives whole on one device. Leave'):
        places(5, Layout(AbstractMesh(shape, AXES), own))


def test_as_many_places_on_each_device():
    assert [places(n, Layout(AbstractMesh((2, 1, 1), AXES))) for n in (1, 2, 3, 5)] == [2, 2, 4, 6]
