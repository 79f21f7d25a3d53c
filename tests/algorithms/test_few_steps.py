"""Generators of a few steps: where sampling leads, what training sees, through which call gradients pass."""

import jax
import numpy as np
import pytest

from kdjax.algorithms.generators import from_data, sampled, simulated
from kdjax.diffusion import Flow
from kdjax.errors import UserError
from kdjax.streams import stream

KEY = jax.random.key(3)
TIMES = (1.0, 0.6, 0.2)
PRIOR, DATA = jax.random.normal(KEY, (2, 6, 2))


def answers(scale):
    """A generator that remembers its inputs."""
    seen = []

    def generator(x_t, t, condition):
        seen.append((x_t, t))
        return scale * x_t + t[:, None]

    return generator, seen


def noise(i):
    return jax.random.normal(stream(jax.random.fold_in(KEY, i), 'noise'), PRIOR.shape)


def test_sampling_goes_on_from_the_answer_with_fresh_noise():
    generator, seen = answers(0.5)
    x = sampled(generator, PRIOR, None, Flow(), TIMES, key=KEY)
    state, by_hand = PRIOR, []
    for i, t in enumerate(TIMES):
        state = state if not i else (1 - t) * by_hand[-1] + t * noise(i)
        by_hand.append(0.5 * state + t)
    np.testing.assert_allclose(x, by_hand[-1], rtol=1e-6)
    assert len(seen) == 3
    one = sampled(generator, PRIOR, None, Flow(), (1.0,), key=KEY)
    np.testing.assert_allclose(one, 0.5 * PRIOR + 1.0)


@pytest.mark.parametrize('seed', range(6))
def test_training_sees_a_state_of_sampling_and_differentiates_one_call(seed):
    """The gradient in the scale is the state itself, whatever led to it."""
    key = jax.random.key(seed)

    def made(scale):
        return simulated(answers(scale)[0], PRIOR, None, Flow(), TIMES, key=key)

    generator, seen = answers(0.5)
    sampled(generator, PRIOR, None, Flow(), TIMES, key=key)
    x, slope = made(0.5), jax.jacfwd(made)(0.5)
    fits = [i for i, (x_t, t) in enumerate(seen) if np.allclose(x, 0.5 * x_t + t[:, None], rtol=1e-5)]
    assert len(fits) == 1
    np.testing.assert_allclose(slope, seen[fits[0]][0], rtol=1e-5)


def test_every_time_is_drawn_and_without_simulation_states_are_noised_data():
    steps = {'simulated': simulated, 'from_data': from_data}
    for name, make in steps.items():
        found = set()
        for seed in range(20):
            drawn = make(lambda x_t, t, c: t[:, None] + 0 * x_t, PRIOR, None, Flow(), TIMES, key=jax.random.key(seed))
            found.add(round(float(drawn[0, 0]), 3))
        assert found == set(TIMES), name
    last = from_data(lambda x_t, t, c: x_t, DATA, None, Flow(), (0.5, 0.0), key=KEY)
    at = [0.5 * DATA + 0.5 * noise(0), DATA]
    assert any(np.allclose(last, each, atol=1e-6) for each in at)


def test_times_that_rise_are_refused():
    with pytest.raises(UserError, match='fall'):
        sampled(lambda x_t, t, c: x_t, PRIOR, None, Flow(), (0.2, 1.0), key=KEY)
