"""Preferred texts: pairs in order, terms that read the text they name, answers where the second text was."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data.markov import markov
from kdjax.data.preference_pairs import preference_pairs
from kdjax.errors import UserError
from kdjax.models.model import Outputs
from kdjax.objectives import total
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.tasks.preferred_lm import PreferredLM, answered, preference, prepare_pairs
from kdjax.view import View

TINY = PreferredLM(
    tokens=5, order=1, row=8, rows=32, prompt=2, teacher_rows=64, warm_rows=16, evaluation_rows=8, student='llama-8-1',
    teacher='llama-8-1', batch=8, steps=3, teacher_steps=3, warm_steps=3, preferring_steps=3,
)  # fmt: skip


def rows():
    source = TINY.data['train']
    return prepare_pairs(source.take(np.arange(len(source))), key=jax.random.key(0), train=True)


def test_the_first_of_a_pair_is_worth_more_and_both_have_one_prompt():
    tokens = TINY.data['train']['tokens'].reshape(32, 2, 9)
    worth = TINY.worth[tokens[:, :, 2:]].mean(axis=-1)
    assert np.all(worth[:, 0] >= worth[:, 1]) and np.mean(worth[:, 0] > worth[:, 1]) > 0.8
    assert np.array_equal(tokens[:, 0, :2], tokens[:, 1, :2])
    assert np.array_equal(tokens[:, 0, :2], TINY.teacher_data['train']['tokens'][:32, :2])


def test_masks_are_of_the_texts_without_their_prompts():
    batch = rows()
    stored = TINY.data['train']['tokens']
    assert np.array_equal(np.asarray(batch['label'])[:, 1:8], stored[:, 2:9])
    assert batch['chosen'][0].tolist() == [False] + [True] * 7 + [False] * 9
    assert batch['other'][0].tolist() == [False] * 10 + [True] * 7
    assert batch['paired'].all()


def test_preference_is_dpo_of_the_sums():
    batch = rows()
    student, reference = jax.random.normal(jax.random.key(0), (2, 32, 17, 5))
    nodes = {'student': lambda _: Outputs(student), 'reference': lambda _: Outputs(reference)}
    found = total(preference(0.3)(View(nodes, batch, 0)))

    def said(logits, text):
        taken = jnp.take_along_axis(jax.nn.log_softmax(logits), batch['label'][:, :, None], axis=-1)[:, :, 0]
        return taken[:, slice(1, 8) if text == 0 else slice(10, 17)].sum(axis=1)

    margin = said(student, 0) - said(student, 1) - said(reference, 0) + said(reference, 1)
    assert float(found) == pytest.approx(float(jnp.mean(-jax.nn.log_sigmoid(0.3 * margin))), rel=1e-5)


def test_an_answer_takes_the_place_of_the_second_text():
    batch = rows() | {'index': jnp.arange(32)}
    said = jnp.arange(32 * 9).reshape(32, 9)
    table = {'tokens': said, 'behaviour': -jnp.ones((32, 7))}
    rolled, _ = answered().apply({}, batch, lambda name: table, step=0, key=jax.random.key(0))
    assert jnp.array_equal(rolled['tokens'][:, 9:], said[:, :-1])
    assert jnp.array_equal(rolled['label'][:, 9:], said[:, 1:])
    assert jnp.array_equal(rolled['tokens'][:, :9], batch['tokens'][:, :9])
    assert jnp.array_equal(rolled['behaviour'], jnp.where(batch['other'], -1.0, 0.0))


def test_the_reward_of_the_language_is_that_of_its_tokens():
    batch = rows()
    truth = TINY.teacher_data.truth(batch['tokens'])
    view = View({'student': lambda _: Outputs(truth)}, batch, 0)
    said = TINY.evaluated()(view)
    np.testing.assert_allclose(said['reward'], np.exp(truth) @ TINY.worth, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(said['kl_truth'], 0.0, atol=1e-5)
    np.testing.assert_allclose(said['entropy'], -jnp.sum(jnp.exp(truth) * truth, axis=-1), rtol=1e-4)


@pytest.mark.slow
def test_stages_run_and_are_measured_on_own_texts(tmp_path):
    executor = Executor(Store(tmp_path), module='kdjax.tasks.preferred_lm')
    teacher = TINY.live_teacher(TINY.preferring)
    stage = TINY.play(
        {'student': TINY.player(preference(0.1, reference='teacher'), start='start')}, {'teacher': teacher},
        inputs={'start': TINY.warm, 'answers': TINY.answers('answers', TINY.warm)}, rollout=answered(),
    )  # fmt: skip
    made = executor.run(dataclasses.replace(stage, name='arm/one'), 0)
    assert set(made.info['metrics']['test']) >= {'reward', 'entropy', 'kl_truth', 'kl'}
    assert made.arrays['predictions']['test']['where'].shape == (8, 8)
    assert made.arrays['predictions']['test']['where'].sum() == 8 * 7


@pytest.mark.parametrize(('options', 'said'), [({'prompt': 9, 'rows': 4}, 'from the order, 1, to 8'),
                                               ({'prompt': 2, 'rows': 5}, 'from 1 to 4')])  # fmt: skip
def test_pairs_that_cannot_be_made_are_refused(options, said):
    language = markov(vocabulary=3, order=1, length=8, rows=4, evaluation_rows=2)
    with pytest.raises(UserError, match=said):
        preference_pairs(language, lambda texts: texts.sum(axis=1), **options)
