"""Grids of times, and samplers tuned without training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixtures import SCHEDULES, one_gaussian, states, two_classes

from kdjax import diffusion
from kdjax.diffusion import times, tuned
from kdjax.errors import UserError


def levels_of(schedule, grid):
    alpha, sigma = schedule.levels(grid)
    return sigma / alpha


def test_grids_have_their_ends_and_fall():
    for schedule in SCHEDULES.values():
        for grid in (
            times.uniform(5, start=0.9, end=0.1),
            times.power(5, 2.0, start=0.9, end=0.1),
            times.by_noise(schedule, 5, start=0.9, end=0.1),
            times.by_log_snr(schedule, 5, start=0.9, end=0.1),
        ):
            assert grid.shape == (6,) and (np.diff(grid) < 0).all()
            np.testing.assert_array_equal(grid[jnp.array([0, -1])], np.float32([0.9, 0.1]))


def test_even_in_what_they_say():
    flow = SCHEDULES['flow']
    np.testing.assert_allclose(np.diff(times.uniform(4)), -0.25)
    np.testing.assert_allclose(np.diff(np.sqrt(times.power(4, 2.0))), -0.25, rtol=1e-5)
    even = flow.log_snr(times.by_log_snr(flow, 4, start=0.9, end=0.1))
    np.testing.assert_allclose(np.diff(even), np.diff(even)[0], rtol=1e-4)
    roots = levels_of(flow, times.by_noise(flow, 4, start=0.9, end=0.1)) ** (1 / 7)
    np.testing.assert_allclose(np.diff(roots), np.diff(roots)[0], rtol=1e-4)


def test_on_the_ladder_of_karras_his_grid_is_uniform():
    np.testing.assert_allclose(times.by_noise(SCHEDULES['karras'], 8), times.uniform(8), atol=1e-5)


def test_the_noise_grid_reaches_no_noise_at_all():
    np.testing.assert_array_equal(times.by_noise(SCHEDULES['flow'], 3, start=0.99)[-1], 0.0)


@pytest.mark.parametrize(
    ('steps', 'ladder', 'levels'),
    [
        (8, (12, 7, 9), [14.6, 6.71, 3.61, 2.17, 1.40, 0.94, 0.62, 0.37, 0.147]),
        (5, (8, 5, 6), [14.6, 4.52, 1.96, 1.00, 0.50, 0.13]),
    ],
)
def test_the_published_grid_has_its_published_levels(steps, ladder, levels):
    """Of Stable Diffusion, within the rounding of its authors to whole steps."""
    schedule = SCHEDULES['discrete']
    sampler = tuned.published(schedule, steps)
    np.testing.assert_allclose(levels_of(schedule, sampler.grid()), levels, rtol=0.03)
    points, rho, kept = ladder
    assert sampler.times[-1] == pytest.approx(tuned.published_end(schedule, ladder=points, rho=rho, kept=kept)[1])
    assert isinstance(sampler.solver, diffusion.DPMSolver if steps == 8 else diffusion.DDIM)


def test_the_published_grid_needs_finite_ends():
    assert tuned.published(SCHEDULES['flow'], 8, ends=(0.03, 15.0)).times[0] == pytest.approx(15 / 16)
    with pytest.raises(UserError, match=r"'flow' ends without noise or without data: pass ends=\(least, most\)"):
        tuned.published(SCHEDULES['flow'], 8)


def error_of(denoiser, exact):
    """The mean distance to where the ODE leads."""
    noise = states(64)
    wanted = exact.ode_map(noise, 1.0, 0.0)
    return tuned.measured(denoiser, noise, lambda x: jnp.mean(jnp.abs(x - wanted)))


def test_a_measure_is_of_the_samples():
    denoiser, labels = two_classes().denoiser(SCHEDULES['flow']), jnp.array([0, 1, 2, 1, 0])
    sampler = tuned.Sampler(diffusion.DDIM(eta=1), (1.0, 0.6, 0.2), to_data=True)
    key = jax.random.key(5)
    found = tuned.measured(denoiser, states(), jnp.sum, labels, key=key)(sampler)
    assert found == pytest.approx(float(jnp.sum(sampler(denoiser, states(), labels, key=key))), rel=1e-4)


def test_tuning_beats_the_plain_grid_at_equal_cost():
    exact, denoiser = one_gaussian().under(SCHEDULES['flow']), one_gaussian().denoiser(SCHEDULES['flow'])
    measure = error_of(denoiser, exact)
    plain = tuned.Sampler(diffusion.DDIM(), tuple(np.linspace(1, 0, 6).tolist()))
    samplers = [plain, *tuned.candidates(denoiser, 5, ends=(0.0, 0.05), rhos=(1.0, 2.0))]
    assert {s.nfe(denoiser) for s in samplers} == {5}
    found = tuned.tune(samplers, measure, denoiser)
    assert found.value == min(value for _, value in found.trials) < 0.7 * found.trials[0][1]
    assert len(found.trials) == len(samplers)
    better = tuned.refine(found.best, measure, rounds=1, moves=(0.3,))
    assert better.value < found.value and better.best.nfe(denoiser) == 5
    assert measure(better.best) == pytest.approx(better.value)


def test_candidates_of_a_guided_denoiser_cost_both_branches():
    denoiser = two_classes().denoiser(SCHEDULES['cosine']).guided(diffusion.Guidance(2.0, 'from_null'), null=2)
    samplers = tuned.candidates(denoiser, 8, ends=(0.0, 0.02), rhos=(1.0,))
    assert {s.nfe(denoiser) for s in samplers} == {8}
    assert len({s.name for s in samplers}) == len(samplers)


def test_samplers_start_at_the_noise_of_their_first_time():
    denoiser, noise = two_classes().denoiser(SCHEDULES['karras']), states()
    sampler = tuned.Sampler(diffusion.DDIM(), (0.7, 0.3), to_data=True)
    start = SCHEDULES['karras'].sigma(0.7) * noise
    wanted = diffusion.DDIM()(denoiser, start, jnp.array([0.7, 0.3]), to_data=True)
    np.testing.assert_allclose(sampler(denoiser, noise), wanted, rtol=1e-6)


def test_grids_may_be_traced():
    schedule = SCHEDULES['cosine']
    found = jax.jit(lambda rho, end: times.by_noise(schedule, 4, rho=rho, end=end))(5.0, 0.1)
    np.testing.assert_allclose(found, times.by_noise(schedule, 4, rho=5.0, end=0.1), rtol=1e-4)


PLAIN = tuned.Sampler(diffusion.DDIM(), (1.0, 0.5, 0.0))


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda d: times.uniform(0), 'a grid of 0 steps'),
        (lambda d: times.uniform(3, start=0.1, end=0.5), 'a grid from 0.1 to 0.5: 0 <= end < start <= 1'),
        (
            lambda d: times.by_noise(d.schedule, 3),
            "alpha is 0 at time 1.0 of the schedule 'flow': start a little below",
        ),
        (lambda d: times.by_log_snr(d.schedule, 3, start=0.9), 'sigma is 0 at time 0.0 .*: end a little above'),
        (lambda d: tuned.tune([], float), 'nothing to tune'),
        (lambda d: tuned.tune([PLAIN], lambda s: float('nan')), 'no measure of 1 samplers is finite'),
        (
            lambda d: tuned.tune([PLAIN, tuned.Sampler(diffusion.Heun(), PLAIN.times)], lambda s: 0.0, d),
            r'candidates cost \[2, 3\] evaluations',
        ),
        (lambda d: tuned.candidates(d, 1), "1 evaluations of 'mixture', 1 at a time"),
        (lambda d: tuned.published_end(SCHEDULES['discrete'], ladder=3, rho=7, kept=5), 'level 5 of 3'),
    ],
)
def test_what_tuning_refuses(call, message):
    with pytest.raises(UserError, match=message):
        call(two_classes().denoiser(SCHEDULES['flow']))
