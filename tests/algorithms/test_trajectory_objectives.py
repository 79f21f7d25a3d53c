"""Objectives along a teacher's path, on a Gaussian whose paths are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_paths import (
    KARRAS,
    KEY,
    SCALE,
    S,
    data_of_jump,
    grid_factor,
    mean_and_error,
    over,
    points,
    saying,
    teacher,
)

from kdjax import diffusion
from kdjax.algorithms.trajectory import asking, grid_times, jump, ode_step
from kdjax.algorithms.trajectory_boot import boot_boundary, bootstrapped, signal
from kdjax.algorithms.trajectory_guidance import (
    guidance_error,
    guidance_on_noised_data,
    guidance_on_trajectories,
    guided_by,
    visited,
)
from kdjax.algorithms.trajectory_mean_flow import mean_flow_sample, mean_velocity_matching
from kdjax.algorithms.trajectory_progressive import progressive
from kdjax.algorithms.trajectory_reflow import crookedness, reflow
from kdjax.errors import UserError
from kdjax.models.model import Outputs
from kdjax.objectives import reduce, term
from kdjax.view import View

STEPS = 4
FLOW = diffusion.Flow()


def test_a_step_of_each_example_is_the_solver_s():
    x, t, to = 5.0 * points(3)[0], jnp.array([0.9, 0.6, 0.3]), jnp.array([0.8, 0.2, 0.0])
    for order, solver in ((1, diffusion.DDIM()), (2, diffusion.Heun(along='noise', lower_last=False))):
        moved = ode_step(teacher(), x, t, to, order=order)
        for i in range(3):
            alone = solver(teacher(), x[i : i + 1], jnp.stack([t[i], to[i]]))
            np.testing.assert_allclose(moved[i : i + 1], alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jump(x, 0 * x, KARRAS, t, t), x)
    with pytest.raises(UserError, match=r'a step of order 3: 1 \(DDIM\) or 2 \(Heun\)'):
        ode_step(teacher(), x, t, to, order=3)
    with pytest.raises(UserError, match='a grid of 0 steps'):
        grid_times(0, 2, key=KEY)


def test_a_term_hands_networks_over_as_denoisers():
    def network(inputs, key=None):
        return Outputs(inputs[0])

    def denoiser(function, name):
        return diffusion.Denoiser(lambda x, t, c: function((x, t, c)).prediction, KARRAS, 'data', name=name)

    def loss(x, first, second, *, key):
        assert (first.name, second.name) == ('network 1', 'network 2')
        return jnp.sum(first.data(x, 0.5) + second.data(x, 0.5), axis=1) + jax.random.uniform(key, x.shape[:1])

    reads = term(asking(loss, denoiser), 'batch.x', 'a()', 'b()').terms[0]
    networks = {name: lambda view: lambda inputs, key=None: network(inputs) for name in 'ab'}
    view = View({}, {'x': jnp.ones((3, 2))}, 0, functions=networks, key=KEY)
    assert reads.name == 'loss'
    assert 12.0 < float(reduce(reads, view).sum) < 15.0


def ddim_signal(steps):
    """The student whose signal is DDIM's path on a grid, from the teacher's data at the beginning."""

    def network(seen, t, condition):
        noise = seen / over(jnp.hypot(jnp.full_like(t, SCALE), KARRAS.sigma(t)), jnp.ones_like(seen))
        start = KARRAS.prior(noise)
        start = start + teacher().data(start, 1.0)
        path = diffusion.DDIM().path(teacher(), start, jnp.linspace(1.0, 0.0, steps + 1))
        place = jnp.round((1 - t) * steps).astype(jnp.int32)
        return (path[place, jnp.arange(len(t))] - over(KARRAS.sigma(t), noise)) / SCALE

    return diffusion.Denoiser(network, KARRAS, 'edm', sigma_data=SCALE)


def test_boot_is_zero_on_the_path_of_ddim_which_leads_to_the_end_of_the_ode():
    _, noise = points(16)
    exact = ddim_signal(STEPS)
    off = diffusion.Denoiser(lambda x, t, c: 1.1 * exact.network(x, t, c), KARRAS, 'edm', sigma_data=SCALE)
    found = [bootstrapped(noise, None, student, teacher(), key=KEY, steps=STEPS) for student in (exact, off)]
    assert jnp.max(found[0]) < 1e-7 < 1e-4 < jnp.max(found[1])
    assert jnp.max(boot_boundary(noise, None, exact, teacher())) < 1e-10
    assert jnp.max(boot_boundary(noise, None, off, teacher())) > 1e-7
    end = teacher().data(KARRAS.prior(noise), 1.0) + KARRAS.prior(noise)
    end = diffusion.isotropic([[0.0, 0.0]], S).under(KARRAS).ode_map(end, 1.0, 0.0)
    errors = [
        float(jnp.max(jnp.abs(signal(ddim_signal(n), noise, 0.0) + KARRAS.sigma(0.0) * noise - end))) for n in (50, 100)
    ]
    assert errors[1] < 0.6 * errors[0] < 0.05


def test_boot_without_its_weight_counts_a_step_by_its_square():
    _, noise = points(64)
    student = saying(lambda x, t: 0.3 * x)
    plain, weighted = (
        bootstrapped(noise, None, student, teacher(), key=KEY, steps=STEPS, weighted=w) for w in (False, True)
    )
    ratio = np.unique(np.round(plain / weighted, 4))
    t = jnp.arange(STEPS + 1) / STEPS
    steps = 1 - KARRAS.sigma(t[:-1]) / KARRAS.sigma(t[1:])
    np.testing.assert_allclose(ratio, np.unique(np.round(jnp.square(steps), 4)), atol=2e-4)
    gradient = jax.grad(lambda y: jnp.sum(boot_boundary(noise, None, student, saying(lambda x, t: y * x))))(0.2)
    assert gradient == 0  # the teacher is a constant
    with pytest.raises(UserError, match="'denoiser' has no sigma_data"):
        signal(diffusion.Denoiser(lambda x, t, c: x, KARRAS, 'data'), noise, 0.5)


def test_progressive_is_zero_for_the_student_that_steps_twice_as_far():
    def twice(x, t):
        """By hand: two of DDIM's factors, and the data of one step with their product."""
        n = jnp.round(t * 2 * STEPS).astype(jnp.int32)
        sigma, sigma_end = KARRAS.sigma(t), KARRAS.sigma(t - 1 / STEPS)
        return over(data_of_jump(grid_factor(n, n - 2, 2 * STEPS), sigma, sigma_end), x)

    x, _ = points()
    found = progressive(x, None, saying(twice), teacher(), key=KEY, steps=STEPS)
    own = progressive(x, None, teacher(), teacher(), key=KEY, steps=STEPS)
    assert jnp.max(found) < 1e-6 < 1e-3 < jnp.max(own)


def straight(x, t):
    """The velocity of the lines from noise z to the sample S z."""
    z = x / ((1 - t) * S + t)[:, None]
    return (1 - S) * z


def test_reflow_of_exact_pairs_makes_paths_straight():
    _, noise = points()
    pairs = S * noise  # where the ODE of the Gaussian brings the noise
    student = diffusion.Denoiser(lambda x, t, c: straight(x, t), FLOW, 'flow')
    assert jnp.max(reflow(noise, pairs, None, student, key=KEY)) < 1e-10
    assert jnp.mean(reflow(noise, pairs[::-1], None, student, key=KEY)) > 0.1
    assert jnp.mean(reflow(noise, pairs, None, teacher(FLOW), key=KEY)) > 1e-3
    assert jnp.max(crookedness(noise, None, student)) < 1e-10
    exact = jnp.mean(crookedness(noise, None, saying(lambda x, t: teacher().data(x, t)), steps=64))
    assert exact > 1e-3
    one = diffusion.Euler()(student, noise, jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(one, pairs, atol=1e-6)


def test_reflow_teaches_a_network_of_any_schedule_the_same():
    _, noise = points(8)
    known = diffusion.Denoiser(lambda x, t, c: straight(x, t), FLOW, 'flow', sigma_data=SCALE)
    wide = diffusion.Karras(1e-4, 1e4)
    found = reflow(noise, S * noise, None, known.under(wide).predicting('edm'), key=KEY)
    assert jnp.max(found) < 1e-5


def exact_mean_velocity(x, r, t, condition=None):
    """(x_t - x_r) / (t - r) on the Gaussian's paths, written so that r = t divides nothing by 0."""
    at, to = (jnp.sqrt((1 - time) ** 2 * S**2 + time**2) for time in (t, r))
    return over((S**2 * (t + r - 2) + t + r) / ((at + to) * at), x)


def test_mean_flow_is_zero_for_the_exact_mean_velocity():
    x, noise = points()

    def value(student, **options):
        return mean_velocity_matching(x, None, student, teacher(FLOW), key=KEY, power=0.0, **options)

    assert jnp.max(value(exact_mean_velocity, instantaneous=0.0)) < 1e-9
    assert jnp.max(value(exact_mean_velocity, instantaneous=1.0)) < 1e-9
    velocity = value(lambda x, r, t, c: exact_mean_velocity(x, t, t), instantaneous=0.0)
    assert jnp.mean(velocity) > 1e-3
    np.testing.assert_allclose(mean_flow_sample(noise, None, exact_mean_velocity), S * noise, atol=1e-6)
    np.testing.assert_allclose(mean_flow_sample(noise, None, exact_mean_velocity, steps=3), S * noise, atol=1e-6)


def test_mean_flow_from_pairs_has_no_expected_gradient_at_the_exact_mean_velocity():
    x, _ = points(8192)

    def gradient(scale):
        """Of each example in a factor on the mean velocity."""

        def values(scale):
            student = lambda *at: scale * exact_mean_velocity(*at)  # noqa: E731
            return mean_velocity_matching(x, None, student, key=KEY, power=0.0, instantaneous=0.5)

        return mean_and_error(jax.jvp(values, (scale,), (1.0,))[1])

    (mean, error), (wrong, _) = jax.jit(gradient)(1.0), jax.jit(gradient)(1.2)
    assert abs(mean) < 3 * error < 0.5 * abs(wrong)


def guided_student(mixture, schedule):
    exact = mixture.denoiser(schedule)
    return diffusion.Denoiser(lambda x, t, told: guided_by(exact, told[1]).raw(x, t, told[0]), schedule, 'data')


def test_guidance_in_one_pass_is_zero_for_what_guidance_says():
    mixture = diffusion.isotropic([[-1.0, 0.0], [1.0, 0.5]], 0.3, component_classes=[0, 1])
    exact, student = mixture.denoiser(KARRAS), guided_student(mixture, KARRAS)
    plain = diffusion.Denoiser(lambda x, t, told: exact.raw(x, t, told[0]), KARRAS, 'data')
    x, noise = points(6)
    label, scale = jnp.array([0, 1, 0, 1, 2, 0]), jnp.linspace(1.0, 6.0, 6)
    times = jnp.linspace(1.0, 0.0, 4)
    stored = jax.jit(lambda noise: visited(exact, noise, label, scale, times))(noise)
    assert stored.states.shape == stored.said.shape == (6, 3, 2)
    np.testing.assert_allclose(stored.states[:, 0], KARRAS.prior(noise))
    at = jnp.broadcast_to(times[None, :-1], (6, 3))
    t = jnp.linspace(0.2, 0.7, 6)
    for who, zero in ((student, True), (plain, False)):
        found = {
            'trajectories': guidance_on_trajectories(*stored, at, scale, label, who, key=KEY),
            'noised': guidance_on_noised_data(x, t, label, who, exact, key=KEY, low=1.0, high=6.0),
            'own path': guidance_error(noise, label, scale, who, exact, times),
        }
        for name, value in found.items():
            assert value.shape == (6,)
            assert bool(jnp.max(value) < 1e-9) == zero, name
