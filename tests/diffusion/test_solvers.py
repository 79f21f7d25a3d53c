"""Solvers: orders on a Gaussian whose map is exact, identities between them, laws of samples, costs and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixtures import SCHEDULES, one_gaussian, states, two_classes

from kdjax import diffusion
from kdjax.diffusion import times
from kdjax.errors import UserError

MIXTURE = two_classes()
ORDERS = {
    'ddim': (diffusion.DDIM(), 1),
    'euler': (diffusion.Euler(), 1),
    'heun': (diffusion.Heun(lower_last=False), 2),
    'heun in noise': (diffusion.Heun('noise', lower_last=False), 2),
    'heun, last step of order 1': (diffusion.Heun(), 2),
    'multistep': (diffusion.DPMSolver(lower_last=False), 2),
}


@functools.partial(jax.jit, static_argnums=(0, 1))
def solved(solver, schedule, x, grid):
    return solver(one_gaussian().denoiser(schedule), x, grid)


@pytest.mark.parametrize(('name', 'schedule'), [*((n, 'flow') for n in ORDERS), ('multistep', 'karras')])
def test_orders_of_convergence(name, schedule):
    """The error against the exact map, as steps double from 32 to 64."""
    solver, order = ORDERS[name]
    with jax.enable_x64(True):
        exact = one_gaussian().under(SCHEDULES[schedule])
        x = SCHEDULES[schedule].sigma(0.9) * jnp.asarray(states(), float)
        wanted = exact.ode_map(x, 0.9, 0.1)
        errors = []
        for steps in (32, 64):
            found = solved(solver, SCHEDULES[schedule], x, times.uniform(steps, start=0.9, end=0.1))
            errors.append(float(jnp.max(jnp.abs(found - wanted))))
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)
        assert errors[1] < 0.1


@pytest.mark.parametrize('solver', [diffusion.DDIM(), diffusion.DPMSolver(), diffusion.Heun('noise')], ids=repr)
def test_solvers_in_the_noise_level_do_not_depend_on_the_schedule(solver):
    """The same network at the same signal-to-noise ratios, under two schedules."""
    flow, cosine = SCHEDULES['flow'], SCHEDULES['cosine']
    denoiser = MIXTURE.denoiser(flow)
    grid = times.uniform(6, start=0.95, end=0.05)
    x = flow.prior(states())
    other_grid = cosine.time_of(flow.log_snr(grid))
    scale = jnp.hypot(*cosine.levels(other_grid)) / jnp.hypot(*flow.levels(grid))
    other = solver(denoiser.under(cosine), scale[0] * x, other_grid)
    np.testing.assert_allclose(other, scale[-1] * solver(denoiser, x, grid), rtol=1e-3, atol=1e-3)


def test_ddim_is_eulers_step_in_the_noise_level():
    denoiser, grid = MIXTURE.denoiser(SCHEDULES['karras']), jnp.array([0.5, 0.4])
    (first, last), x = SCHEDULES['karras'].sigma(grid), 3 * states()
    wanted = x + (last - first) * (x - denoiser.data(x, 0.5)) / first
    np.testing.assert_allclose(diffusion.DDIM()(denoiser, x, grid), wanted, rtol=1e-5, atol=1e-5)


def test_heun_is_the_published_algorithm():
    """EDM's algorithm 1, two steps by hand, the last of them Euler's."""
    denoiser, grid = MIXTURE.denoiser(SCHEDULES['karras']), jnp.array([0.6, 0.4, 0.2])
    levels, x = SCHEDULES['karras'].sigma(grid), 5 * states()
    slope = (x - denoiser.data(x, grid[0])) / levels[0]
    there = x + (levels[1] - levels[0]) * slope
    slope_there = (there - denoiser.data(there, grid[1])) / levels[1]
    first = x + (levels[1] - levels[0]) * 0.5 * (slope + slope_there)
    last = first + (levels[2] - levels[1]) * (first - denoiser.data(first, grid[1])) / levels[1]
    path = diffusion.Heun('noise').path(denoiser, x, grid)
    np.testing.assert_allclose(path[1], first, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(path[2], last, rtol=1e-4, atol=1e-4)


def test_the_multistep_solver_is_the_published_algorithm():
    """DPM-Solver++(2M) in half log SNR, three steps by hand."""
    schedule, grid = SCHEDULES['cosine'], jnp.array([0.9, 0.6, 0.4, 0.2])
    denoiser, x = MIXTURE.denoiser(SCHEDULES['cosine']), states()
    alpha, sigma = schedule.levels(grid)
    half = 0.5 * schedule.log_snr(grid)
    wanted, before = x, None
    for i in range(3):
        width, data = half[i + 1] - half[i], denoiser.data(wanted, grid[i])
        used = data
        if before is not None:
            ratio = (half[i] - half[i - 1]) / width
            used = (1 + 1 / (2 * ratio)) * data - 1 / (2 * ratio) * before
        wanted = sigma[i + 1] / sigma[i] * wanted - alpha[i + 1] * jnp.expm1(-width) * used
        before = data
    found = diffusion.DPMSolver(lower_last=False)(denoiser, x, grid)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_one_step_of_the_multistep_solver_is_ddims():
    denoiser, grid = MIXTURE.denoiser(SCHEDULES['flow']), times.uniform(1)
    found, wanted = (s(denoiser, states(), grid) for s in (diffusion.DPMSolver(), diffusion.DDIM()))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    'solver', [diffusion.DDIM(), diffusion.DPMSolver(), diffusion.Heun(), diffusion.Euler()], ids=repr
)
def test_the_whole_of_time_is_finite(solver):
    """From t = 1, where a flow has no data, to t = 0, where it has no noise."""
    path = solver.path(MIXTURE.denoiser(SCHEDULES['flow']), states(), times.uniform(5))
    assert np.isfinite(path).all() and path.shape == (6, 5, 2)
    np.testing.assert_array_equal(path[0], states())


def test_the_end_of_a_path_is_the_result():
    denoiser, grid = MIXTURE.denoiser(SCHEDULES['flow']), times.uniform(4, end=0.1)
    solver = diffusion.DPMSolver()
    path = solver.path(denoiser, states(), grid, to_data=True)
    np.testing.assert_allclose(path[-2], solver(denoiser, states(), grid), rtol=1e-6)
    np.testing.assert_allclose(path[-1], solver(denoiser, states(), grid, to_data=True), rtol=1e-6)
    np.testing.assert_allclose(path[-1], denoiser.data(path[-2], 0.1), rtol=1e-4, atol=1e-5)


def law_of(solver, schedule, grid, labels=None):
    """Mean and covariance of 4000 samples."""
    start = SCHEDULES[schedule].sigma(grid[0])
    denoiser = MIXTURE.denoiser(SCHEDULES[schedule])

    @jax.jit
    def draw(key):
        noise, steps = jax.random.split(key)
        x = start * jax.random.normal(noise, (4000, 2))
        return solver(denoiser, x, grid, labels, key=steps)

    x = draw(jax.random.key(0))
    return x.mean(axis=0), np.cov(x.T)


@pytest.mark.parametrize(
    ('solver', 'schedule', 'steps'),
    [
        (diffusion.DPMSolver(), 'flow', 32),
        (diffusion.DDIM(eta=0.5), 'cosine', 128),
        (diffusion.DDIM(eta=1), 'cosine', 128),
        (diffusion.Churn(churn=20, inflation=1.0), 'karras', 48),
    ],
    ids=repr,
)
def test_the_law_of_samples(solver, schedule, steps):
    """That of the data, within what 4000 samples and so many steps allow."""
    mean, covariance = law_of(solver, schedule, times.uniform(steps))
    np.testing.assert_allclose(mean, MIXTURE.mean(), atol=0.07)
    np.testing.assert_allclose(covariance, MIXTURE.covariance(), atol=0.1)


def test_samples_of_a_class_have_its_law():
    mean, covariance = law_of(diffusion.Heun(), 'flow', times.uniform(24), jnp.zeros(4000, jnp.int32))
    np.testing.assert_allclose(mean, [1.0, 0.5], atol=0.03)
    np.testing.assert_allclose(covariance, [[0.2, 0.05], [0.05, 0.1]], atol=0.03)


def test_ancestral_steps_have_the_posteriors_variance():
    """DDPM's: (1 - abar_s) / (1 - abar_t) (1 - abar_t / abar_s), around the posterior's mean."""
    schedule, grid = SCHEDULES['cosine'], jnp.array([0.5, 0.4])
    data = jnp.array([[0.7, -0.2]])
    fixed = diffusion.Denoiser(lambda x, t, c: jnp.broadcast_to(data, x.shape), schedule, 'data')
    x = jnp.broadcast_to(jnp.array([[0.3, 0.9]]), (20_000, 2))
    found = diffusion.DDIM(eta=1)(fixed, x, grid, key=jax.random.key(3))
    before, after = schedule.alpha(grid) ** 2
    variance = (1 - after) / (1 - before) * (1 - before / after)
    mean = np.sqrt(after) * (1 - before / after) / (1 - before) * data[0]
    mean += np.sqrt(before / after) * (1 - after) / (1 - before) * x[0]
    np.testing.assert_allclose(found.mean(axis=0), mean, atol=0.01)
    np.testing.assert_allclose(found.var(axis=0), np.full(2, variance), rtol=0.05)


def test_renoising_keeps_the_data_alone():
    """Its state holds the data expected and fresh noise; at t = 0 nothing but the data."""
    denoiser = MIXTURE.denoiser(SCHEDULES['flow'])
    end = diffusion.Renoise()(denoiser, states(), jnp.array([0.8, 0.0]), key=jax.random.key(0))
    np.testing.assert_allclose(end, denoiser.data(states(), 0.8), rtol=1e-5, atol=1e-6)
    many = jnp.broadcast_to(states()[:1], (20_000, 2))
    half = diffusion.Renoise()(denoiser, many, jnp.array([0.8, 0.5]), key=jax.random.key(0))
    np.testing.assert_allclose(half.mean(axis=0), 0.5 * denoiser.data(states()[:1], 0.8)[0], atol=0.02)
    np.testing.assert_allclose(half.std(axis=0), [0.5, 0.5], rtol=0.03)


def test_no_churn_is_heuns():
    denoiser, grid = MIXTURE.denoiser(SCHEDULES['karras']), times.uniform(4, start=0.8, end=0.2)
    x = SCHEDULES['karras'].sigma(0.8) * states()
    found = diffusion.Churn(churn=0)(denoiser, x, grid, key=jax.random.key(0))
    np.testing.assert_allclose(found, diffusion.Heun('noise')(denoiser, x, grid), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ('solver', 'calls'),
    [
        (diffusion.DDIM(), 2), (diffusion.Euler(), 2), (diffusion.DPMSolver(), 2), (diffusion.Heun(), 3),
        (diffusion.Heun(lower_last=False), 4), (diffusion.Heun('noise'), 3), (diffusion.Churn(), 3),
        (diffusion.Renoise(), 2),
    ],
    ids=repr,
)  # fmt: skip
def test_the_cost_is_what_is_evaluated(solver, calls):
    """Counted while nothing is compiled, with one more for the data expected; twice as much with guidance."""
    seen = []

    def network(x_t, t, condition):
        seen.append(t)
        return x_t

    denoiser = diffusion.Denoiser(network, SCHEDULES['cosine'], 'v')
    grid = times.uniform(2, start=0.9, end=0.1)
    with jax.disable_jit():
        solver(denoiser, states(1), grid, key=jax.random.key(0), to_data=True)
    assert solver.nfe(denoiser, grid) == calls
    assert len(seen) == calls + 1 == solver.nfe(denoiser, grid, to_data=True)
    guided = denoiser.guided(diffusion.Guidance(2.0, 'from_null'), null=0)
    assert solver.nfe(guided, grid, to_data=True) == 2 * len(seen)


def test_low_precision_states_are_solved_in_float32():
    denoiser = MIXTURE.denoiser(SCHEDULES['flow'])
    assert diffusion.DDIM()(denoiser, states().astype(jnp.bfloat16), times.uniform(2)).dtype == jnp.float32


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda d: diffusion.DDIM(eta=1)(d, states(), times.uniform(2)), 'DDIM draws noise: pass key='),
        (lambda d: diffusion.DDIM()(d, states(), jnp.array([0.1, 0.9])), 'do not fall: sampling runs from noise'),
        (lambda d: diffusion.DDIM()(d, states(), jnp.array([0.5])), r'times have shape \(1,\)'),
        (lambda d: diffusion.DDIM(eta=2), 'eta is 2: between 0'),
        (lambda d: diffusion.Heun('sigma'), "along is 'sigma': choose 'time' or 'noise'"),
        (lambda d: diffusion.Churn(low=2, high=1), '0 <= low < high'),
    ],
)
def test_what_solvers_refuse(call, message):
    with pytest.raises(UserError, match=message):
        call(MIXTURE.denoiser(SCHEDULES['flow']))
