"""Every kind of teacher through the algorithm that uses it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import batch, mlp, with_statistics

from kdjax import teachers
from kdjax.algorithms import supervised
from kdjax.errors import UserError
from kdjax.models.model import Outputs
from kdjax.objectives import hard_labels, kl, term
from kdjax.view import View

KEY = jax.random.key(0)
BATCH = jax.tree.map(jnp.asarray, batch())
SGD = optax.sgd(0.5)


def close(a, b, **tolerance) -> None:
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, **({'rtol': 1e-5, 'atol': 1e-6} | tolerance)), a, b
    )


def said_by(teacher, frozen, memory=None, fields=BATCH) -> Outputs:
    return teacher.apply(memory or {}, frozen, View({}, fields, 0), key=KEY)


def test_live_is_the_model_in_evaluation_mode():
    model = with_statistics(mlp(16))
    weights = model.init(KEY, BATCH['image'])
    expected = model.apply(weights, BATCH['image'], key=KEY, train=False)[0]
    close(said_by(teachers.live(model), {'teacher': weights}), expected)


def test_an_ensemble_is_the_mean_of_probabilities():
    members = {'a': mlp(4), 'b': mlp(8), 'c': mlp(16)}
    frozen = {n: m.init(jax.random.key(i), BATCH['image']) for i, (n, m) in enumerate(members.items())}
    said = said_by(teachers.ensemble(members), frozen)
    logits = [
        m.apply(frozen[n], BATCH['image'], key=KEY, train=False)[0].prediction for n, m in members.items()
    ]
    mean = sum(jax.nn.softmax(z) for z in logits) / 3
    close(jax.nn.softmax(said.prediction), mean)
    close(jnp.exp(said.prediction), mean)
    close(said.taps['mean_logits'], sum(logits) / 3)
    close(said.taps['b'], logits[1])


def test_a_cache_answers_by_index():
    table = jnp.arange(30.0).reshape(10, 3)
    said = said_by(teachers.cached(), {'teacher': table}, fields={'index': jnp.array([7, 0, 7])})
    np.testing.assert_array_equal(said.prediction, table[np.array([7, 0, 7])])


def test_an_index_beyond_the_cache_is_nan_and_never_another_row():
    said = said_by(teachers.cached(), {'teacher': jnp.ones((4, 3))}, fields={'index': jnp.array([3, 4])})
    assert np.isnan(said.prediction).any(axis=-1).tolist() == [False, True]


def test_a_cache_of_another_shape_is_refused():
    with pytest.raises(
        UserError, match=r"the cache 'teacher' has shape \(4,\): logits \[examples, classes\] are needed"
    ):
        teachers.cached().init({'teacher': jnp.ones((4,))}, BATCH, {})


def test_an_oracle_is_any_function_of_the_batch():
    rule = teachers.oracle(lambda fields: Outputs(jax.nn.one_hot(fields['label'], 3)))
    np.testing.assert_array_equal(said_by(rule, {}).prediction, np.eye(3)[BATCH['label']])


def test_an_ema_teacher_is_the_recursion():
    model, decay = with_statistics(mlp()), 0.7
    ema = teachers.ema(model, decay=decay)
    algorithm = supervised(model, hard_labels() + kl(), SGD, teachers={'teacher': ema})
    state, step = jax.jit(algorithm.init)(KEY, {}, BATCH), jax.jit(algorithm.step)
    close(state['memory']['teacher'], state['variables']['student'])
    expected = state['variables']['student']['params']
    for _ in range(4):
        state, _ = step(state, {}, BATCH, KEY)
        now = state['variables']['student']
        expected = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, expected, now['params'])
        close(state['memory']['teacher']['params'], expected)
        close(state['memory']['teacher']['stats'], now['stats'], rtol=0, atol=0)


def test_an_ema_teacher_gets_no_gradient():
    """At first the average is the student: KL(teacher || student) and its gradient are zero."""
    algorithm = supervised(mlp(), kl(), SGD, teachers={'teacher': teachers.ema(mlp())})
    state = jax.jit(algorithm.init)(KEY, {}, BATCH)
    after, metrics = jax.jit(algorithm.step)(state, {}, BATCH, KEY)
    assert abs(metrics['student/kl']) < 1e-6
    close(after['variables'], state['variables'])


class TestPastSelf:
    past = teachers.past_self(examples=24, classes=3)
    algorithm = supervised(mlp(), hard_labels() + kl(), SGD, teachers={'teacher': past})

    def test_an_example_never_seen_is_answered_with_its_label(self):
        memory = self.past.init({}, BATCH, {})
        said = said_by(self.past, {}, memory)
        close(jax.nn.softmax(said.prediction), np.eye(3, dtype=np.float32)[BATCH['label']])
        assert np.isfinite(said.prediction).all()

    def test_then_with_what_the_student_last_said(self):
        state, step = jax.jit(self.algorithm.init)(KEY, {}, BATCH), jax.jit(self.algorithm.step)
        for _ in range(2):
            before = self.algorithm.evaluate(state, {}, BATCH, KEY)['student']
            state, _ = step(state, {}, BATCH, KEY)
            said = said_by(self.past, {}, state['memory']['teacher'])
            close(said.prediction, jax.nn.log_softmax(before))
        assert state['memory']['teacher']['seen'].tolist() == [True] * 6 + [False] * 18

    def test_only_the_examples_of_the_batch_are_overwritten(self):
        state, step = jax.jit(self.algorithm.init)(KEY, {}, BATCH), jax.jit(self.algorithm.step)
        first, second = (jax.tree.map(lambda a, h=half: a[h], BATCH) for half in (slice(0, 3), slice(3, 6)))
        state, _ = step(state, {}, first, KEY)
        memory = state['memory']['teacher']['log_probs']
        state, _ = step(state, {}, second, KEY)
        after = state['memory']['teacher']['log_probs']
        np.testing.assert_array_equal(after[:3], memory[:3])
        assert after[3:6].any(axis=-1).all()

    def test_it_remembers_a_player_whose_objective_reads_nothing_of_it(self):
        """The table is kept from any pass of the step."""
        algorithm = supervised(mlp(), hard_labels(), SGD, teachers={'teacher': self.past})
        state = jax.jit(algorithm.init)(KEY, {}, BATCH)
        state, _ = jax.jit(algorithm.step)(state, {}, BATCH, KEY)
        assert state['memory']['teacher']['seen'].sum() == 6


def test_a_teacher_is_no_gradient_path():
    """An oracle that depends on nothing trained leaves the objective's gradient to the student alone."""
    table = jnp.ones((24, 3))
    algorithm = supervised(
        mlp(),
        term(lambda t: jnp.sum(t, axis=-1), 'teacher', name='t') + 0.0 * hard_labels(),
        SGD,
        teachers={'teacher': teachers.cached()},
    )
    state = jax.jit(algorithm.init)(KEY, {'teacher': table}, BATCH)
    after, metrics = jax.jit(algorithm.step)(state, {'teacher': table}, BATCH, KEY)
    assert metrics['student/t'] == 3.0
    close(after['variables'], state['variables'], rtol=0, atol=0)
