"""A running average of a student lies on the mesh as the student does."""

import functools

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh

from kdjax import teachers
from kdjax.algorithms import supervised
from kdjax.models.named import named
from kdjax.objectives import hard_labels, kl
from kdjax.run.layout import AXES, PLACEMENTS, Layout, read_rules

BATCH = {'image': jax.ShapeDtypeStruct((16, 8, 8, 3), np.float32), 'label': jax.ShapeDtypeStruct((16,), np.int32)}


@functools.cache
def student(spec: str):
    model = named(spec, classes=8, image_shape=(8, 8, 3))
    algorithm = supervised(
        model, hard_labels() + kl(teacher='mean'), optax.adam(1e-3), teachers={'mean': teachers.ema(model)}
    )
    return algorithm, jax.eval_shape(algorithm.init, jax.random.key(0), {}, BATCH)


@pytest.mark.parametrize('placement', PLACEMENTS)
@pytest.mark.parametrize('spec', ['vit-16-2', 'mlp-32-16', 'resnet8'])
def test_it_is_split_like_the_student(spec, placement):
    algorithm, state = student(spec)
    made = Layout(AbstractMesh((2, 2, 2), AXES), student=placement).of_state(state, algorithm.rules)
    assert made['memory']['mean'] == made['variables']['student']
    split = {axis for sharding in jax.tree.leaves(made['memory']) for axis in sharding.spec if axis}
    assert split == set(PLACEMENTS[placement])


def test_your_rule_for_the_student_may_name_its_average_too():
    algorithm, state = student('mlp-32-16')
    own = read_rules(('(variables/student|memory/mean)/params/hidden/0/kernel=,fsdp',))
    made = Layout(AbstractMesh((2, 2, 2), AXES), own=own).of_state(state, algorithm.rules)
    assert made['memory']['mean'] == made['variables']['student']
