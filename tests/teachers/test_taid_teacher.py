"""TAID's teacher: t is part of the state, and moves once a step on the loss of the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import batch, mlp

from kdjax import losses, teachers
from kdjax.algorithms import supervised
from kdjax.algorithms.algorithm import Execution, executed
from kdjax.objectives import term

KEY = jax.random.key(0)
BATCH = jax.tree.map(jnp.asarray, batch()) | {'where': jnp.array([True, True, False, True, False, False])}
FROZEN = {'teacher': mlp(16).init(jax.random.key(9), BATCH['image'])}
FAST = {'alpha': 0.3, 'beta': 0.5}
"""So that t is driven by the loss and not by the line."""


def algorithm(**execution):
    taught = {'teacher': teachers.taid(teachers.live(mlp(16)), steps=50, **FAST)}
    objective = term(losses.taid, 'student', 'teacher', 'teacher.t')
    return executed(supervised(mlp(), objective, optax.sgd(0.5), teachers=taught), Execution(**execution))


def trained(algorithm, steps=5):
    state, step, log = algorithm.init(KEY, FROZEN, BATCH), jax.jit(algorithm.step), []
    for _ in range(steps):
        state, metrics = step(state, FROZEN, BATCH, KEY)
        log.append((float(metrics['student/taid']), state['memory']['teacher']['taid']))
    return log


@pytest.fixture(scope='module')
def log():
    return trained(algorithm())


def test_t_follows_the_loss(log):
    """The recursion of `taid_step` on the loss that the step reports, which is the mean over what counts."""
    state = losses.taid_start()
    for step, (loss, found) in enumerate(log):
        state = losses.taid_step(state, jnp.float32(loss), step / 50, **FAST)
        np.testing.assert_allclose(found.t, state.t, rtol=1e-5)
        np.testing.assert_allclose(found.loss, loss, rtol=1e-5)
    assert log[-1][1].t > 0.4 + 0.6 * 4 / 50 + 0.1


def test_accumulated_it_moves_once_a_step_too(log):
    for (loss, whole), (told, found) in zip(log, trained(algorithm(accumulate=2)), strict=True):
        np.testing.assert_allclose((told, found.t), (loss, whole.t), rtol=1e-5)


def test_it_stays_taid_in_another_precision():
    inner = teachers.Teacher(lambda *_, **__: None, in_dtype=lambda dtype: teachers.Teacher(lambda *_, **__: dtype))
    again = teachers.taid(inner, steps=5).in_dtype('bfloat16')
    assert again.init(FROZEN, BATCH, {})['taid'].t == np.float32(0.4)
