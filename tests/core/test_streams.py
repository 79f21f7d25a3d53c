"""Named streams: a key for each name and step, whatever else is drawn."""

import jax
import numpy as np
import pytest

from kdjax.streams import stream

KEY = jax.random.key(7)


def bits(key) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_the_same_seed_name_and_step_give_the_same_key():
    assert bits(stream(jax.random.key(7), 'augment', 3)) == bits(stream(KEY, 'augment', 3))


def test_names_steps_and_seeds_are_told_apart():
    keys = [
        stream(key, name, step)
        for key in (KEY, jax.random.key(8))
        for name in ('augment', 'dropout', 'student/forward')
        for step in (None, 0, 1, 2)
    ]
    assert len({bits(k) for k in keys}) == len(keys)


def test_streams_are_uncorrelated():
    draws = np.stack([jax.random.normal(stream(KEY, f's{i}', 5), (4000,)) for i in range(4)])
    off_diagonal = np.corrcoef(draws) - np.eye(4)
    assert np.abs(off_diagonal).max() < 5 / 4000**0.5


def test_drawing_from_one_stream_disturbs_no_other():
    alone = jax.random.normal(stream(KEY, 'b', 1), (3,))
    jax.random.normal(stream(KEY, 'a', 1), (3,))
    after = jax.random.normal(stream(KEY, 'b', 1), (3,))
    np.testing.assert_array_equal(alone, after)


@pytest.mark.parametrize('step', [0, 1, 1000, 2**31 - 1])
def test_a_traced_step_equals_a_python_step(step):
    traced = jax.jit(lambda s: stream(KEY, 'augment', s))(np.int32(step))
    assert bits(traced) == bits(stream(KEY, 'augment', step))
