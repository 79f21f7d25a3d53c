"""Digits as sentences: words, what is hidden, pre-training without labels and what comes after it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.errors import UserError
from kdjax.objectives import total
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.tasks.pixel_words import MASK, PixelWords, prepare, probe, words
from kdjax.view import View

TINY = PixelWords(student='encoder-8-1', teacher='encoder-16-2', steps=20, teacher_steps=60, batch=16)


@pytest.fixture(scope='module')
def executor(tmp_path_factory):
    return Executor(Store(tmp_path_factory.mktemp('store')), module='kdjax.tasks.pixel_words')


def test_a_word_is_a_patch_in_three_shades():
    image = np.zeros((2, 4, 4, 1), np.float32)
    image[0, :2, 2:, 0] = [[0.5, 1.0], [0.2, 0.9]]
    assert words(jnp.asarray(image)).tolist() == [[0, 27 + 2 * 9 + 2, 0, 0], [0] * 4]
    assert words(jnp.asarray(np.uint8(255 * image))).tolist() == words(jnp.asarray(image)).tolist()


def test_hidden_words_stand_behind_the_mask():
    """Where a model is evaluated nothing is hidden, and the labelled images stand behind the others."""
    image, (labelled, classes) = np.ones((200, 8, 8, 1), np.float32), TINY.probed
    batch, held_out = (
        prepare({'image': image}, key=jax.random.key(0), train=train, masked=0.3, labelled=labelled)
        for train in (True, False)
    )
    assert batch['tokens'].shape == (200, 16)
    assert (batch['masked'] == np.where(batch['hidden'], MASK, batch['tokens'])).all()
    assert 0.25 < batch['hidden'].mean() < 0.35
    assert (held_out['masked'] == held_out['tokens']).all()
    assert (held_out['tokens'][200:] == labelled).all() and len(classes) == 100


def test_the_probe_finds_what_is_linear():
    """Classes that are a linear function of the features, whatever their scale; none of the others' is seen."""
    features = jax.random.normal(jax.random.key(0), (430, 6)) * jnp.array([[1e-2, 1.0, 5.0, 1.0, 1.0, 1.0]]) + 3.0
    label = (features[:, 0] > 3.0).astype(jnp.int32)
    said = probe(features, jax.nn.one_hot(label[30:], 2), ridge=0.1)
    assert said.shape == (30, 2)
    assert jnp.mean(jnp.argmax(said, axis=1) == label[:30]) > 0.9


def test_relations_of_a_model_with_itself_are_equal():
    """Also with another width: only the number of heads has to be the same."""
    model, task = TINY.model('encoder-16-2'), TINY
    tokens = jnp.arange(32, dtype=jnp.int32).reshape(2, 16)
    variables = model.init(jax.random.key(0), tokens)
    said = model.apply(variables, tokens, key=jax.random.key(0), train=False)[0]
    view = View({'student': lambda v: said, 'teacher': lambda v: said}, {}, 0)
    assert float(total(task.relations('encoder-16-2', 'encoder-16-2')(view))) == pytest.approx(0, abs=1e-6)
    assert {'attention', 'values'} == set(task.relations('encoder-16-2', 'encoder-16-2')(view))
    assert {'attention'} == set(task.relations('encoder-16-2', 'encoder-16-2', values=False)(view))


@pytest.fixture(scope='module')
def queries(executor):
    """What relations made of the kernel of the first queries."""
    relations = TINY.relations(TINY.student, TINY.teacher)
    arms = {
        'start': lambda: TINY.trained(0.0 * TINY.hidden_words(), masked=True, steps=1),
        'kept': lambda: TINY.trained(relations, TINY.cached_teacher),
        'live': lambda: TINY.trained(relations, TINY.live_teacher()),
    }

    @functools.cache
    def of(name):
        found = executor.run(dataclasses.replace(arms[name](), name=f'arm/{name}'), 0)
        assert 0 <= found.info['metrics']['test']['accuracy'] <= 1
        return found.arrays['variables']['student']['params']['blocks']['0']['attention']['q']['kernel']

    return of


def test_a_kept_layer_moves_a_student(queries):
    assert np.abs(queries('kept') - queries('start')).max() > 0.01


@pytest.mark.slow
def test_a_kept_layer_teaches_as_a_live_one(queries):
    """The same student but for what Adam makes of rounding."""
    np.testing.assert_allclose(queries('kept'), queries('live'), atol=0.01)


def test_other_names_are_refused():
    with pytest.raises(UserError, match='encoder-WIDTH-DEPTH'):
        TINY.model('vit-64-4')
