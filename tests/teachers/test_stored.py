"""A teacher read from disk teaches what the live one does, up to what its kind leaves out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses, teachers
from kdjax.data.dataset import ArraySource
from kdjax.data.teacher_cache import Hidden, Hybrid, Plan, TopK, answering, open_cache, write_cache
from kdjax.errors import UserError
from kdjax.models.model import Outputs
from kdjax.objectives import kl, term, total
from kdjax.view import View

ROWS, LENGTH, WIDTH, VOCABULARY = 6, 5, 4, 11
HEAD = 2 * jax.random.normal(jax.random.key(0), (VOCABULARY, WIDTH))
HIDDEN = jax.random.normal(jax.random.key(1), (ROWS, LENGTH, WIDTH)).astype(jnp.bfloat16)
SOURCE = ArraySource({'where': np.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) % 4 > 0})
STUDENT = jax.random.normal(jax.random.key(2), (3, LENGTH, VOCABULARY))
KNOWN = ('teacher.ids', 'teacher.probs')


def logits(hidden):
    return hidden.astype(jnp.float32) @ HEAD.T


def batch(kind, folder):
    """Three rows of the split, with what the cache adds."""
    plan = Plan(
        kind, vocabulary=VOCABULARY, rows=ROWS, length=LENGTH, teacher='t', data='d', tokenizer='x', rows_per_shard=4
    )  # fmt: skip

    def speak(rows):
        hidden = HIDDEN[rows['index']]
        return (hidden, logits(hidden)) if isinstance(kind, Hidden) else logits(hidden)

    write_cache(folder, SOURCE, answering(kind, speak, seed=0), plan)
    joined = open_cache(folder, teacher='t', data='d').joined(SOURCE)
    return jax.tree.map(jnp.asarray, joined.take(np.array([5, 0, 2])))


def slope(objective, teacher, fields, frozen=None):
    """The objective's value and its gradient in the student's logits."""

    def value(student):
        nodes = {
            'student': lambda view: Outputs(student),
            'teacher': lambda view: teacher.apply({}, frozen or {}, view, key=jax.random.key(0)),
        }
        return total(objective(View(nodes, fields, 0)))

    return jax.value_and_grad(value)(STUDENT)


LIVE = teachers.oracle(lambda fields: Outputs(logits(HIDDEN[fields['index']])))


@pytest.mark.parametrize(
    ('kind', 'objective'),
    [
        (TopK(VOCABULARY, bits=16), term(losses.tail_bucket_kl, 'student', *KNOWN)),
        (TopK(VOCABULARY, bits=16), term(losses.truncated_kl, 'student', *KNOWN)),
        (Hybrid(50_000, bits=16), term(losses.sparse_kl, 'student', *KNOWN, 'teacher.entropy')),
    ],
    ids=['tail bucket', 'truncated', 'hybrid'],
)
def test_a_cache_of_every_class_is_the_live_teacher(kind, objective, tmp_path):
    fields = batch(kind, tmp_path)
    value, gradient = slope(objective, teachers.stored(), fields)
    wanted, wanted_gradient = slope(kl(), LIVE, fields)
    np.testing.assert_allclose(value, wanted, atol=2e-3)
    np.testing.assert_allclose(gradient, wanted_gradient, atol=1e-4)
    assert not gradient[~np.asarray(fields['where'])].any()


def test_a_cache_of_hidden_states_is_the_live_teacher(tmp_path):
    fields = batch(Hidden(WIDTH), tmp_path)
    teacher, frozen = teachers.stored_hidden(), {'teacher_head': HEAD}
    assert teacher.init(frozen, fields, {}) == {}
    value, gradient = slope(kl(), teacher, fields, frozen)
    wanted, wanted_gradient = slope(kl(), LIVE, fields)
    np.testing.assert_allclose(value, wanted, rtol=0.02)
    np.testing.assert_allclose(gradient, wanted_gradient, atol=2e-3)
    said = teacher.apply({}, frozen, View({}, fields, 0), key=jax.random.key(0))
    assert said.prediction.dtype == jnp.float32
    np.testing.assert_array_equal(said.taps['hidden'], HIDDEN[np.array([5, 0, 2])])
    np.testing.assert_array_equal(said.taps['head'], HEAD)


def test_a_loss_of_logits_refuses_a_sparse_teacher(tmp_path):
    with pytest.raises(UserError, match=r"term 'kl' \(student, teacher\): teacher has 3 classes, student 11"):
        slope(kl(), teachers.stored(), batch(TopK(3), tmp_path))


def test_a_head_of_another_width_is_refused(tmp_path):
    fields = batch(Hidden(WIDTH), tmp_path)
    with pytest.raises(UserError, match=r"frozen 'teacher_head' has shape \(11, 3\), the hidden states .* \(3, 5, 4\)"):
        teachers.stored_hidden().init({'teacher_head': HEAD[:, :3]}, fields, {})


def test_without_the_cache_the_missing_column_is_named():
    with pytest.raises(UserError, match="unknown field of the batch 'teacher_ids'"):
        slope(term(losses.truncated_kl, 'student', *KNOWN), teachers.stored(), {'where': jnp.ones((3, LENGTH), bool)})
