"""Schedules: their inverses, rates, ends and published values, and times that are out of range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixtures import SCHEDULES, TIMES

from kdjax import diffusion
from kdjax.errors import UserError


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    return SCHEDULES[request.param]


def test_time_of_inverts_log_snr(schedule):
    np.testing.assert_allclose(schedule.time_of(schedule.log_snr(TIMES)), TIMES, atol=3e-6)


def test_time_of_inverts_log_snr_in_double(schedule):
    with jax.enable_x64(True):
        times = jnp.linspace(0.01, 0.99, 50)
        np.testing.assert_allclose(schedule.time_of(schedule.log_snr(times)), times, atol=1e-12)


def test_levels_beyond_the_ends_give_the_nearer_end(schedule):
    assert schedule.time_of(200.0) == pytest.approx(0, abs=1e-6)
    assert schedule.time_of(-200.0) == pytest.approx(1, abs=1e-6)


def test_log_snr_falls_and_is_that_of_the_levels(schedule):
    alpha, sigma = schedule.levels(TIMES)
    np.testing.assert_allclose(schedule.log_snr(TIMES), 2 * np.log(alpha / sigma), rtol=2e-5, atol=2e-5)
    assert (np.diff(schedule.log_snr(TIMES)) < 0).all()


def test_rates_are_finite_differences_of_the_levels(schedule):
    with jax.enable_x64(True):
        times, width = jnp.array([0.0503, 0.2003, 0.5003, 0.9003]), 1e-6
        above, below = schedule.levels(times + width), schedule.levels(times - width)
        for rate, high, low in zip(schedule.rates(times), above, below, strict=True):
            np.testing.assert_allclose(rate, (high - low) / (2 * width), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('name', ['cosine', 'linear', 'discrete'])
def test_variance_is_preserved(name):
    alpha, sigma = SCHEDULES[name].levels(TIMES)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-6)


def test_variance_of_the_data_is_preserved():
    alpha, sigma = SCHEDULES['trigflow'].levels(TIMES)
    np.testing.assert_allclose(0.25 * alpha**2 + sigma**2, 0.25, rtol=1e-6)


@pytest.mark.parametrize(
    ('schedule', 't', 'alpha', 'sigma'),
    [
        (diffusion.Cosine(np.inf, -np.inf), 0.0, 1, 0),
        (diffusion.Cosine(np.inf, -np.inf), 1.0, 0, 1),
        (diffusion.Cosine(np.inf, -np.inf), 1 / 3, np.sqrt(3) / 2, 0.5),
        (diffusion.Cosine(), 0.0, 1, np.exp(-10)),
        (diffusion.Cosine(), 1.0, np.exp(-10), 1),
        (diffusion.Linear(), 1.0, np.exp(-0.25 * 19.9 - 0.05), np.sqrt(1 - np.exp(-0.5 * 19.9 - 0.1))),
        (diffusion.Karras(), 0.0, 1, 0.002),
        (diffusion.Karras(), 1.0, 1, 80),
        (diffusion.Karras(), 0.5, 1, ((0.002 ** (1 / 7) + 80 ** (1 / 7)) / 2) ** 7),
        (diffusion.Flow(), 0.25, 0.75, 0.25),
        (diffusion.TrigFlow(0.5), 1.0, 0, 0.5),
        (diffusion.TrigFlow(0.5), 0.5, np.sqrt(0.5), 0.5 * np.sqrt(0.5)),
    ],
)
def test_known_levels(schedule, t, alpha, sigma):
    np.testing.assert_allclose(schedule.alpha(t), alpha, rtol=3e-6, atol=1e-12)
    np.testing.assert_allclose(schedule.sigma(t), sigma, rtol=3e-6, atol=1e-12)


def test_stable_diffusion_has_its_known_noise_levels():
    """sigma / alpha of the first and the last of its steps, as samplers list them."""
    alpha, sigma = diffusion.Discrete.scaled_linear().levels(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(sigma / alpha, [0.0292, 14.6146], rtol=2e-3)


def test_discrete_steps_are_the_products_of_their_betas():
    betas = np.linspace(0.01, 0.2, 11)
    schedule = diffusion.Discrete.from_betas(betas)
    t = jnp.arange(11) / 10
    np.testing.assert_allclose(schedule.alpha(t), np.sqrt(np.cumprod(1 - betas)), rtol=1e-5)
    np.testing.assert_allclose(schedule.step_of(t), np.arange(11), rtol=1e-6)


def test_many_small_betas_are_the_linear_schedule():
    steps = 4000
    betas = (0.1 + 19.9 * np.arange(steps) / steps) / steps
    schedule = diffusion.Discrete.from_betas(betas)
    np.testing.assert_allclose(schedule.alpha(TIMES), diffusion.Linear().alpha(TIMES), rtol=1e-2)


def test_noised_is_the_sum_of_both_for_one_time_and_for_many(schedule):
    x, noise = np.random.default_rng(0).normal(size=(2, 5, 3, 2)).astype(np.float32)
    x, noise = jnp.asarray(x), jnp.asarray(noise)
    whole = schedule.noised(x, noise, TIMES)
    for i, t in enumerate(TIMES):
        alone = schedule.noised(x[i : i + 1], noise[i : i + 1], t)
        np.testing.assert_allclose(whole[i], alone[0], rtol=1e-5, atol=1e-6)
        by_hand = schedule.alpha(t) * x[i] + schedule.sigma(t) * noise[i]
        np.testing.assert_allclose(alone[0], by_hand, rtol=1e-5, atol=1e-6)


def test_the_prior_is_the_noise_at_the_end():
    noise = jnp.ones((2, 3))
    np.testing.assert_allclose(diffusion.Karras().prior(noise), 80 * np.ones((2, 3)), rtol=1e-6)


@pytest.mark.parametrize('t', [-0.1, 1.5, 999])
def test_times_out_of_range_are_refused(schedule, t):
    with pytest.raises(UserError, match=rf'time {t:g} is outside \[0, 1\] of the schedule.*noise \(1\)'):
        schedule.levels(t)


def test_times_that_are_not_numbers_are_refused():
    with pytest.raises(UserError, match='time nan is outside'):
        diffusion.Flow().levels(jnp.array([0.5, jnp.nan]))


def test_traced_times_are_taken_on_trust():
    assert jax.jit(lambda t: diffusion.Flow().sigma(t))(2.0) == 2


def test_times_of_another_batch_are_refused():
    with pytest.raises(UserError, match=r'times have shape \(3,\), x \(2, 4\)'):
        diffusion.Flow().noised(jnp.ones((2, 4)), jnp.ones((2, 4)), jnp.full(3, 0.5))


def test_sigmas_out_of_range_are_refused():
    karras = diffusion.Karras()
    assert karras.time_of_sigma(80.0) == pytest.approx(1)
    with pytest.raises(UserError, match=r"sigma 100 is outside \[0.002, 80\] of the schedule 'karras'"):
        karras.time_of_sigma(100.0)


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: diffusion.Cosine(-20, 20), 'it has to fall with time'),
        (lambda: diffusion.Linear(20, 0.1), '0 < beta_min < beta_max'),
        (lambda: diffusion.Discrete((0.1,)), 'give two or more, each between 0 and 1'),
        (lambda: diffusion.Karras(1.0, 0.5), '0 < sigma_min < sigma_max'),
        (lambda: diffusion.TrigFlow(0.0), 'sigma_data is 0.0: it is the standard deviation'),
    ],
)
def test_schedules_that_make_no_sense_are_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()
