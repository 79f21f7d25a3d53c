"""The conversion table: every pair there and back, published formulas, and what it refuses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixtures import SCHEDULES, TIMES

from kdjax import diffusion
from kdjax.diffusion.parametrisation import known_prediction
from kdjax.errors import UserError

PAIRS = list(itertools.permutations(diffusion.PREDICTIONS, 2))


def pair_of(schedule):
    """Data, noise and x_t, one example at each time."""
    data, noise = jax.random.normal(jax.random.key(3), (2, len(TIMES), 3))
    return data, noise, schedule.noised(data, noise, TIMES)


def raw_of(prediction, schedule, data, noise, sigma_data=0.5):
    a, b = diffusion.weights(prediction, *schedule.levels(TIMES), sigma_data)
    return a[:, None] * data + b[:, None] * noise


@pytest.mark.parametrize('name', SCHEDULES)
def test_every_pair_there_and_back(name):
    """float32: within 1e-5 of the largest number that the conversion passes through."""
    schedule = SCHEDULES[name]
    data, noise, x_t = pair_of(schedule)
    alpha, sigma = schedule.levels(TIMES)
    levels = {'alpha': alpha, 'sigma': sigma, 'sigma_data': 0.5}
    for source, target in PAIRS:
        raw = raw_of(source, schedule, data, noise)
        there = diffusion.convert(raw, x_t, source, target, **levels)
        size = 1 + np.abs(x_t) * np.maximum(1, 1 / np.minimum(alpha, sigma))[:, None]
        assert np.max(np.abs(there - raw_of(target, schedule, data, noise)) / size) < 1e-5, (source, target)
        back = diffusion.convert(there, x_t, target, source, **levels)
        assert np.max(np.abs(back - raw) / size**2) < 1e-5, (source, target)


@pytest.mark.parametrize('name', SCHEDULES)
def test_every_pair_there_and_back_in_double(name):
    schedule = SCHEDULES[name]
    with jax.enable_x64(True):
        times = jnp.linspace(0.05, 0.95, 7)
        alpha, sigma = schedule.levels(times)
        data, noise = jax.random.normal(jax.random.key(3), (2, 7, 3))
        levels = {'alpha': alpha, 'sigma': sigma, 'sigma_data': 0.5}
        x_t = schedule.noised(data, noise, times)
        for source, target in PAIRS:
            raw, wanted = (
                a[:, None] * data + b[:, None] * noise
                for a, b in (diffusion.weights(p, alpha, sigma, 0.5) for p in (source, target))
            )
            there = diffusion.convert(raw, x_t, source, target, **levels)
            np.testing.assert_allclose(there, wanted, rtol=1e-8, atol=1e-8)
            np.testing.assert_allclose(
                diffusion.convert(there, x_t, target, source, **levels), raw, rtol=1e-8, atol=1e-8
            )


def test_a_prediction_as_itself_is_untouched():
    raw = jnp.array([[jnp.inf, 1.0]])
    same = diffusion.convert(raw, raw, 'noise', 'noise', alpha=jnp.zeros(1), sigma=jnp.ones(1))
    assert same is raw


def test_v_of_progressive_distillation():
    """data = alpha x_t - sigma v, where variance is preserved."""
    schedule = SCHEDULES['cosine']
    data, noise, x_t = pair_of(schedule)
    alpha, sigma = schedule.levels(TIMES)
    v = diffusion.convert(data, x_t, 'data', 'v', alpha=alpha, sigma=sigma)
    np.testing.assert_allclose(v, alpha[:, None] * noise - sigma[:, None] * data, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(alpha[:, None] * x_t - sigma[:, None] * v, data, rtol=1e-4, atol=1e-4)


def test_edm_is_the_published_preconditioning():
    """data = c_skip x_t + c_out F, and F has variance 1 for data of variance sigma_data^2."""
    schedule, sigma_data = SCHEDULES['karras'], 0.5
    alpha, sigma = schedule.levels(TIMES)
    skip, out, into, told = diffusion.preconditioning(sigma, sigma_data)
    np.testing.assert_allclose(skip, 0.25 / (sigma**2 + 0.25), rtol=1e-6)
    np.testing.assert_allclose(out, sigma * 0.5 / np.sqrt(sigma**2 + 0.25), rtol=1e-6)
    np.testing.assert_allclose(into, 1 / np.sqrt(sigma**2 + 0.25), rtol=1e-6)
    np.testing.assert_allclose(told, np.log(sigma) / 4, rtol=1e-6)
    raw, x_t = jax.random.normal(jax.random.key(0), (2, len(TIMES), 3))
    data = diffusion.convert(raw, x_t, 'edm', 'data', alpha=alpha, sigma=sigma, sigma_data=sigma_data)
    np.testing.assert_allclose(data, skip[:, None] * x_t + out[:, None] * raw, rtol=1e-5, atol=1e-6)
    a, b = diffusion.weights('edm', alpha, sigma, sigma_data)
    np.testing.assert_allclose((a * sigma_data) ** 2 + b**2, 1, rtol=1e-6)


def test_trigflow_is_the_published_parametrisation():
    """data = cos(angle) x_t - sin(angle) sigma_data F, and EDM's F is its negative."""
    schedule = SCHEDULES['trigflow']
    alpha, sigma = schedule.levels(TIMES)
    raw, x_t = jax.random.normal(jax.random.key(0), (2, len(TIMES), 3))
    levels = {'alpha': alpha, 'sigma': sigma, 'sigma_data': 0.5}
    data = diffusion.convert(raw, x_t, 'trigflow', 'data', **levels)
    angle = schedule.angle(TIMES)[:, None]
    np.testing.assert_allclose(data, np.cos(angle) * x_t - np.sin(angle) * 0.5 * raw, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(diffusion.convert(-raw, x_t, 'edm', 'data', **levels), data, rtol=1e-5, atol=1e-6)


def test_flow_is_the_velocity_of_the_straight_line():
    data, noise, x_t = pair_of(SCHEDULES['flow'])
    alpha, sigma = SCHEDULES['flow'].levels(TIMES)
    flow = diffusion.convert(noise, x_t, 'noise', 'flow', alpha=alpha, sigma=sigma)
    np.testing.assert_allclose(flow, noise - data, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    ('prediction', 'sigma_data', 'message'),
    [
        (None, None, "'teacher' does not say what its network predicts: pass predicts= one of noise, data, v, flow"),
        ('epsilon', None, "unknown prediction 'epsilon'.*known: data, edm, flow, noise"),
        ('edm', None, "'teacher' predicts 'edm' without sigma_data: pass the standard deviation"),
        ('trigflow', -1.0, "sigma_data of 'teacher' is -1.0"),
    ],
)
def test_predictions_that_are_not_stated_are_refused(prediction, sigma_data, message):
    with pytest.raises(UserError, match=message):
        known_prediction(prediction, "'teacher'", sigma_data)
    with pytest.raises(UserError, match=message):
        diffusion.Denoiser(lambda x, t, c: x, SCHEDULES['cosine'], prediction, sigma_data=sigma_data, name='teacher')
