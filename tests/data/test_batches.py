"""A batch is a function of (seed, step): the properties that resume and several hosts rely on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdjax import data
from kdjax.data.batches import epoch_order
from kdjax.errors import UserError

SIZES = st.integers(1, 40)
SEEDS = st.integers(0, 2**63)
quick = settings(max_examples=60, deadline=None, derandomize=True)


def indices(examples, batch, seed, first, steps):
    return data.batch_indices(examples, batch=batch, seed=seed, first_step=first, steps=steps)


@quick
@given(examples=SIZES, batch=SIZES, seed=SEEDS)
def test_every_epoch_visits_each_example_once(examples, batch, seed):
    epochs = 3
    steps = -(-epochs * examples // batch)
    visited = indices(examples, batch, seed, 0, steps).reshape(-1)[: epochs * examples]
    for epoch in visited.reshape(epochs, examples):
        assert sorted(epoch) == list(range(examples))


@quick
@given(examples=SIZES, batch=SIZES, seed=SEEDS, first=st.integers(0, 30), steps=st.integers(0, 10))
def test_any_stretch_of_steps_is_a_slice_of_the_whole(examples, batch, seed, first, steps):
    whole = indices(examples, batch, seed, 0, first + steps)
    stretch = indices(examples, batch, seed, first, steps)
    np.testing.assert_array_equal(stretch, whole[first:])
    assert stretch.shape == (steps, batch) and stretch.dtype == np.int32


@quick
@given(seeds=st.tuples(SEEDS, SEEDS).filter(lambda pair: pair[0] != pair[1]))
def test_different_seeds_give_different_orders(seeds):
    first, second = (indices(50, 50, seed, 0, 1) for seed in seeds)
    assert (first != second).any()


def test_different_epochs_give_different_orders():
    assert (epoch_order(50, 0, 0) != epoch_order(50, 0, 1)).any()


def test_the_order_is_pinned():
    # Changing it changes every record: this must never happen by accident, on any machine or NumPy version.
    assert indices(10, 5, 0, 0, 2).tolist() == [[0, 2, 9, 1, 8], [5, 4, 3, 6, 7]]


def test_a_batch_larger_than_the_data_holds_several_epochs():
    batch = indices(3, 7, 0, 0, 1)[0]
    assert np.bincount(batch).min() >= 2 and len(batch) == 7


def test_all_examples_are_first_equally_often():
    first = [epoch_order(5, seed, 0)[0] for seed in range(2000)]
    assert abs(np.bincount(first) - 400).max() < 4 * np.sqrt(2000 * 0.2 * 0.8)


def test_cached_orders_cannot_be_spoilt():
    with pytest.raises(ValueError, match='read-only'):
        epoch_order(4, 0, 0)[0] = 9


def test_far_steps_cost_no_more_than_their_own_epochs():
    epoch_order.cache_clear()
    indices(10, 5, 0, 2 * 10**9, 2)
    assert epoch_order.cache_info().misses == 1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((0, 4, 0, 0, 1), 'batch=4 of 0 examples'),
        ((4, 0, 0, 0, 1), 'batch=0 of 4 examples'),
        ((4, 2, 0, -1, 1), 'first_step=-1'),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        indices(*arguments)


@pytest.mark.parametrize('batch', [1, 3, 4, 10, 64])
def test_evaluation_sees_every_example_once_in_batches_of_one_size(batch):
    source = data.ArraySource({'image': np.zeros((10, 2, 2, 1), np.uint8), 'label': np.arange(10, dtype=np.int32)})
    batches = list(data.evaluation_batches(source, batch))
    assert {len(found['label']) for found in batches} == {batch}
    seen = np.concatenate([found['index'][found['where']] for found in batches])
    assert seen.tolist() == list(range(10))


def test_host_batches_read_ahead_in_order():
    image = np.arange(40, dtype=np.uint8).reshape(10, 2, 2, 1)
    source = data.ArraySource({'image': image, 'label': np.arange(10, dtype=np.int32)})
    rows = indices(10, 4, 0, 3, 20)
    found = list(data.host_batches(source, rows))
    np.testing.assert_array_equal([batch['label'] for batch in found], rows)
    np.testing.assert_array_equal(found[3]['image'], source['image'][rows[3]])
