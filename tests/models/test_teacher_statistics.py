"""A live teacher of BatchNorm speaks by its running statistics, which training its student never moves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from model_cases import KEY, differs, images, made_up, small

from kdjax.algorithms import supervised
from kdjax.losses import kl_forward
from kdjax.objectives import hard_labels, term
from kdjax.teachers import live


@pytest.fixture(scope='module')
def stepped():
    """Frozen arrays before and after, the batch, the state before and after one step, and its metrics."""
    teacher, student = small('mlp-8-8'), small('mlp-8')
    batch = {'image': images(4, 8, 8, 1), 'label': jnp.array([0, 1, 2, 0]), 'index': jnp.arange(4)}
    frozen = {'teacher': made_up(teacher, batch['image'], seed=5)}
    before = jax.tree.map(lambda leaf: np.array(leaf), frozen)
    objective = hard_labels() + term(kl_forward, 'student', 'teacher', temperature=2.0, t_squared=False)
    algorithm = supervised(student, objective, optax.sgd(0.1), teachers={'teacher': live(teacher)})
    state = algorithm.init(KEY, frozen, batch)
    after, metrics = jax.jit(algorithm.step)(state, frozen, batch, KEY)
    return before, frozen, batch, state, after, metrics


def test_a_step_leaves_the_teacher_as_it_was(stepped):
    before, frozen, *_ = stepped
    assert differs(before, frozen) == []


def test_the_teacher_is_in_no_part_of_the_state(stepped):
    _, frozen, _, _, after, _ = stepped
    assert set(after['variables']) == {'student'}
    assert jax.tree.leaves(after['memory']) == []
    teacher = jax.tree.leaves(frozen)
    assert not any(np.array_equal(leaf, t) for leaf in jax.tree.leaves(after) for t in teacher)


def test_the_student_trains_and_its_statistics_follow(stepped):
    *_, state, after, _ = stepped
    before, moved = state['variables']['student'], after['variables']['student']
    assert len(differs(before['stats'], moved['stats'])) == len(jax.tree.leaves(before['stats'])) == 2
    assert "['classifier']['kernel']" in differs(before['params'], moved['params'])


def test_the_student_learns_from_the_evaluated_teacher(stepped):
    _, frozen, batch, state, _, metrics = stepped

    def says(model, variables, train):
        return model.apply(variables, batch['image'], key=KEY, train=train)[0].prediction

    student = says(small('mlp-8'), state['variables']['student'], True)
    q = jax.nn.log_softmax(student / 2)

    def divergence(train):
        p = jax.nn.log_softmax(says(small('mlp-8-8'), frozen['teacher'], train) / 2)
        return float(jnp.mean(jnp.sum(jnp.exp(p) * (p - q), axis=-1)))

    assert float(metrics['student/kl_forward']) == pytest.approx(divergence(False), rel=1e-4)
    assert divergence(True) != pytest.approx(divergence(False), rel=1e-2)
