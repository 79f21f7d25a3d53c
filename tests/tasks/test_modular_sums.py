"""The task of sums that a rule checks: its teacher is the table it says, and so are its answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.algorithms.rollouts import unrolled
from kdjax.data.text_batch import prepare_text
from kdjax.tasks.modular_sums import ModularSums, grid

TASK = ModularSums(tokens=5, words=3, rows=64, evaluation_rows=4096, samples=4, student='gpt2-8-1')


def test_the_teacher_is_right_as_often_as_its_skill():
    tokens = jnp.asarray(TASK.data['test']['tokens'])
    right = TASK.correct(tokens[:, :-1], tokens[:, 1:])
    assert float(right.mean()) == pytest.approx(TASK.skill, abs=4 * np.sqrt(0.21 / 4096))
    assert right.tolist() == (tokens[:, -1] == (tokens[:, 0] + tokens[:, -2]) % 5).tolist()


def test_the_table_is_of_probabilities_and_of_the_token_before():
    tokens = jnp.asarray(TASK.data['train']['tokens'][:, :-1])
    said = TASK.log_teacher(tokens)
    np.testing.assert_allclose(jax.nn.logsumexp(said, axis=-1), 0.0, atol=1e-5)
    np.testing.assert_allclose(said[:, 0], TASK.style[tokens[:, 0]], atol=1e-6)
    sums = (tokens[:, 0] + tokens[:, -1]) % 5
    np.testing.assert_allclose(jnp.take_along_axis(said[:, -1], sums[:, None], axis=1), np.log(0.7), rtol=1e-5)


def test_groups_answer_one_question():
    stored = {**TASK.data['train'].columns, 'index': np.arange(64)}
    batch = prepare_text({name: column[:8] for name, column in stored.items()})
    model = TASK.model(TASK.student)
    variables = model.init(jax.random.key(0), TASK.example())
    rolled, _ = TASK.grouped().apply({}, unrolled(batch), lambda name: variables, step=0, key=jax.random.key(1))
    assert rolled['tokens'].shape == (8, 3)
    assert rolled['tokens'][:, 0].tolist() == np.repeat(batch['tokens'][:2, 0], 4).tolist()
    assert bool(rolled['drawn'].all())


def test_the_best_of_a_grid_is_chosen_on_validation():
    def run(validation, test):
        return {'validation': {'joint': np.array([[validation]])}, 'test': {'joint': np.array([[test]])}}

    runs = {'a': run(0.5, 0.9), 'b': run(0.7, 0.1)}
    assert grid(runs, ('joint',), 'joint') == {'validation': {'joint': 0.7}, 'test': {'joint': 0.1}}
    assert grid(runs, ('joint',), None)['test']['joint'] == pytest.approx(0.5)
