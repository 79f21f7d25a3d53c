"""Real batches: clusters of known centres, batches that are held as long as they should be, rounds without repeats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.algorithms.condensation import representatives
from kdjax.algorithms.condensation.rounds import redrawn
from kdjax.errors import UserError
from kdjax.models.model import Outputs, from_functions
from kdjax.view import View

KEY = jax.random.key(0)
REAL = jnp.arange(6 * 2 * 4, dtype=jnp.float32).reshape(6, 2, 2, 2, 1)
"""Six images of each of two classes; no two are alike."""


@pytest.mark.parametrize('seed', range(4))
def test_centres_of_two_groups_on_a_line_are_their_means_from_every_start(seed):
    points = jnp.asarray([[0.0], [1.0], [10.0], [11.0]])
    found = representatives.centres(points, 2, key=jax.random.key(seed), iterations=5)
    np.testing.assert_allclose(np.sort(np.asarray(found)[:, 0]), [0.5, 10.5])


def test_a_cluster_that_nobody_joins_keeps_its_centre():
    found = representatives.centres(jnp.asarray([[0.0], [0.0], [5.0]]), 3, key=KEY, iterations=3)
    np.testing.assert_allclose(np.sort(np.asarray(found)[:, 0]), [0.0, 0.0, 5.0])


def brightness():
    """A network without parameters whose feature is the sum of an image."""
    return from_functions(
        lambda key, example: {}, lambda params, x: Outputs(x, {'pooled': jnp.sum(x, (1, 2))}), name='brightness'
    )


def test_there_is_one_representative_of_every_cluster_and_class():
    near = jnp.asarray([0.0, 0.1, 0.2, 9.0, 9.1, 9.2]).reshape(6, 1, 1, 1, 1) * jnp.ones((1, 2, 2, 2, 1))
    images = near.at[:, 1].set(near[::-1, 1])
    choose = representatives.near_centres(brightness(), count=2)
    variables = {'params': {}, 'stats': {}}
    rows = np.asarray(jax.jit(lambda key: choose(images, variables, key=key))(KEY))
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(np.sort(rows, axis=0), [[1, 1], [4, 4]])


def steps(teacher, number):
    """The rows of each step, and the batches."""
    memory = teacher.init({'real': REAL}, None, None)

    def read(memory, step):
        said = teacher.apply(memory, {'real': REAL}, View({}, {}, step), key=jax.random.fold_in(KEY, step))
        view = View({'held': lambda view: said}, {}, step)
        view.outputs('held')
        return teacher.update(memory, view, None), said

    read, found = jax.jit(read), []
    for step in range(number):
        memory, said = read(memory, jnp.asarray(step, jnp.int32))
        found.append((np.asarray(said.taps['rows']), np.asarray(said.prediction)))
    return found


def test_a_batch_is_held_and_then_drawn_anew():
    teacher = representatives.held(representatives.at_random(3), name='held', count=3, every=2)
    found = steps(teacher, 4)
    rows = [r for r, _ in found]
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[2], rows[3])
    assert not np.array_equal(rows[0], rows[2])
    for chosen, batch in found:
        for c in range(2):
            assert len(set(chosen[:, c])) == 3
            np.testing.assert_array_equal(batch[:, c], np.asarray(REAL)[chosen[:, c], c])


def test_the_network_that_a_held_batch_asks_is_there_for_others():
    """It is read before the branch that may not run."""

    def choose(images, variables, *, key):
        return representatives.at_random(3)(images + variables, None, key=key)

    teacher = representatives.held(choose, name='held', count=3, every=2, network='network')

    @jax.jit
    def run(scale, step):
        view = View({'network': lambda view: Outputs(2.0 * scale)}, {}, step)
        said = teacher.apply(jnp.zeros((3, 2), jnp.int32), {'real': REAL}, view, key=KEY)
        return said.taps['rows'], view['network']

    rows, read = run(jnp.float32(3.0), jnp.int32(1))
    np.testing.assert_array_equal(rows, 0)
    assert read == 6.0


@pytest.mark.parametrize('count, every', [(7, 1), (0, 1), (3, 0)])
def test_batches_that_cannot_be_held(count, every):
    teacher = representatives.held(representatives.at_random(count), name='held', count=count, every=every)
    with pytest.raises(UserError, match=f'{count} real images of each class out of 6, chosen every {every} steps'):
        teacher.init({'real': REAL}, None, None)


def test_a_round_has_every_class_equally_often_and_no_image_twice():
    teacher = redrawn(3)
    said = teacher.apply({}, {'real': REAL}, View({}, {}, 0), key=KEY)
    np.testing.assert_array_equal(np.bincount(said.taps['label']), [3, 3])
    assert said.prediction.shape == (6, 2, 2, 1)
    first = np.asarray(said.prediction)[:, 0, 0, 0]
    assert len(set(first)) == 6
    np.testing.assert_array_equal(first // 4 % 2, said.taps['label'])
