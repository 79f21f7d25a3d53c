"""What a result is made of: its digest changes when, and only when, something does."""

import dataclasses
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from kdjax.run import identity
from kdjax.run.stages import Executor
from kdjax.run.store import Store


@pytest.fixture
def executor(tmp_path) -> Executor:
    return Executor(Store(tmp_path), module='tiny')


@pytest.fixture(scope='module')
def arms():
    return tiny.experiment.resolve()


def test_the_same_content_has_the_same_digest(executor, arms):
    again = tiny.experiment.resolve()
    for name in arms:
        assert executor.digest(arms[name].stage, 0) == executor.digest(again[name].stage, 0)


@pytest.mark.parametrize(
    'change',
    [
        {'name': 'arm/other'},
        {'config': {'rate': 1}},
        {'steps': 7},
        {'batch': 8},
        {'inputs': {}},
        {'data': tiny.dataset(27)},
        {'reference': None},
        {'facts': {'x': tiny.experiment.resolve()['kd'].stage.reference}},
        {'module': 'kdjax.streams'},
        {'shared': True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_a_stage_is_in_its_digest(executor, arms, change):
    stage = arms['kd'].stage
    assert executor.digest(dataclasses.replace(stage, **change), 0) != executor.digest(stage, 0)


def test_a_changed_input_changes_what_reads_it(executor):
    """Twenty-one steps of the teacher are another teacher, so another cache, so another student."""
    before = tiny.experiment.resolve()['kd'].stage

    def with_teacher(steps):
        said = before.inputs['teacher'].stage
        teacher = dataclasses.replace(said.inputs['model'].stage, steps=steps)
        cache = dataclasses.replace(said, inputs={'model': teacher['variables']['student']})
        return dataclasses.replace(before, inputs={'teacher': cache['train']})

    assert executor.digest(with_teacher(20), 0) == executor.digest(before, 0)
    assert executor.digest(with_teacher(21), 0) != executor.digest(before, 0)


def test_a_seed_changes_students_but_not_what_is_shared(executor, arms):
    student, teacher = arms['kd'].stage, arms['kd'].stage.inputs['teacher'].stage
    assert executor.digest(student, 0) != executor.digest(student, 1)
    assert executor.digest(teacher, 0) == executor.digest(teacher, 1)


def test_the_base_seed_changes_what_is_shared(tmp_path, arms):
    teacher = arms['kd'].stage.inputs['teacher'].stage
    digests = {Executor(Store(tmp_path), module='tiny', base_seed=seed).digest(teacher, 0) for seed in (0, 5)}
    assert len(digests) == 2


def test_the_code_identity_is_what_a_module_does_wherever_it_is(tmp_path, monkeypatch):
    plain = 'import kdjax.streams\n'
    texts = {'a': plain, 'same_elsewhere': plain, 'more': plain + 'x = 1\n'}
    for name, text in texts.items():
        path = tmp_path / name / 'written.py'
        path.parent.mkdir()
        path.write_text(text)
        module = types.ModuleType(f'written_{name}')
        module.__file__ = str(path)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    a, same, more = (identity.code(f'written_{name}') for name in texts)
    assert a == same != more


def test_digest_ignores_the_order_of_keys():
    assert identity.digest({'a': 1, 'b': [1, 2]}) == identity.digest({'b': [1, 2], 'a': 1})
    assert identity.digest({'a': 1}) != identity.digest({'a': 2})


def test_state_digest_sees_every_path_type_shape_and_bit():
    base = {'a': {'w': np.zeros((2, 3), np.float32)}, 'n': np.int32(1)}
    others = [
        {'b': {'w': np.zeros((2, 3), np.float32)}, 'n': np.int32(1)},
        {'a': {'w': np.zeros((3, 2), np.float32)}, 'n': np.int32(1)},
        {'a': {'w': np.zeros((2, 3), np.float16)}, 'n': np.int32(1)},
        {'a': {'w': np.full((2, 3), np.float32(1e-45))}, 'n': np.int32(1)},
        {'a': {'w': np.full((2, 3), np.float32(-0.0))}, 'n': np.int32(1)},
    ]
    digests = {identity.state_digest(tree) for tree in (base, *others)}
    assert len(digests) == 6
    on_device = {'a': {'w': jnp.zeros((2, 3))}, 'n': jnp.int32(1)}
    assert identity.state_digest(on_device) == identity.state_digest(base)


def test_the_code_identity_ignores_what_is_only_said(tmp_path):
    def of(text):
        path = tmp_path / 'x.py'
        path.write_text(text)
        return identity._bare(path)

    plain = of('def f(x):\n    return x + 1\n')
    assert of('"""What it does."""\n\n\ndef f(x):\n    """Adds one."""\n    return x + 1  # one\n') == plain
    assert of('def f(x):\n    return x + 2\n') != plain
