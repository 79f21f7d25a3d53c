"""Losses of a sparse teacher: what they refuse, and what an id that does not exist does."""

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses

STUDENT = jnp.zeros((2, 5))
IDS = jnp.array([[0, 3], [1, -1]])
PROBS = jnp.array([[0.6, 0.2], [0.5, 0.0]])


@pytest.mark.parametrize('name', ['sparse_cross_entropy', 'truncated_kl', 'renormalized_kl', 'tail_bucket_kl'])
def test_other_shapes_are_refused(name):
    with pytest.raises(ValueError, match=r'student has shape \(2, 5\), ids \(2, 2\), probabilities \(2, 3\): give k'):
        getattr(losses, name)(STUDENT, IDS, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r'student has shape \(3, 5\), ids \(2, 2\)'):
        getattr(losses, name)(jnp.zeros((3, 5)), IDS, PROBS)
    with pytest.raises(ValueError, match='temperature is 0'):
        getattr(losses, name)(STUDENT, IDS, PROBS, temperature=0)


def test_an_entropy_for_each_example():
    with pytest.raises(ValueError, match=r'entropy has shape \(3,\), the examples \(2,\): give one for each'):
        losses.sparse_kl(STUDENT, IDS, PROBS, jnp.zeros(3))


@pytest.mark.parametrize('name', ['sparse_cross_entropy', 'truncated_kl', 'renormalized_kl', 'tail_bucket_kl'])
def test_an_id_beyond_the_classes_is_nan_and_never_another_class(name):
    values = getattr(losses, name)(STUDENT, IDS.at[0, 1].set(5), PROBS)
    assert np.isnan(values).tolist() == [True, False]


@pytest.mark.parametrize('name', ['truncated_kl', 'renormalized_kl', 'tail_bucket_kl'])
def test_tokens_of_a_sequence_are_examples(name):
    loss = getattr(losses, name)
    rows = loss(STUDENT, IDS, PROBS)
    np.testing.assert_array_equal(loss(STUDENT[None], IDS[None], PROBS[None]), rows[None])


def test_padded_classes_of_the_student_have_no_share_of_the_tail():
    padded = jnp.pad(STUDENT, ((0, 0), (0, 3)), constant_values=-jnp.inf)
    np.testing.assert_allclose(
        losses.tail_bucket_kl(padded, IDS, PROBS), losses.tail_bucket_kl(STUDENT, IDS, PROBS), rtol=1e-6
    )
