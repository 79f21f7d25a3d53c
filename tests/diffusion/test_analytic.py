"""Analytic mixtures: score against autodiff, data against quadrature, maps against laws; the linear generator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixtures import SCHEDULES, THREE, TIMES, one_gaussian, states, two_classes

from kdjax import diffusion
from kdjax.diffusion import quadrature
from kdjax.errors import UserError

MIXTURE = two_classes()
LABELS = jnp.array([0, 1, 2, 1, 0])
BOX = quadrature.grid(-4, 4, 160)


@pytest.mark.parametrize('labels', [None, LABELS], ids=['all', 'classes'])
@pytest.mark.parametrize('name', THREE)
def test_score_is_the_gradient_of_the_log_density(name, labels):
    exact = MIXTURE.under(SCHEDULES[name])
    slope = jax.grad(lambda x: jnp.sum(exact.log_density(x, TIMES, labels)))(states())
    np.testing.assert_allclose(exact.score(states(), TIMES, labels), slope, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize('name', THREE)
def test_score_of_its_denoiser_is_its_score(name):
    exact = MIXTURE.under(SCHEDULES[name])
    denoiser = MIXTURE.denoiser(SCHEDULES[name])
    x_t = exact.sample(5, TIMES, key=jax.random.key(2))
    np.testing.assert_allclose(
        denoiser.score(x_t, TIMES, LABELS), exact.score(x_t, TIMES, LABELS), rtol=2e-3, atol=2e-3
    )


@pytest.mark.parametrize('labels', [None, LABELS], ids=['all', 'classes'])
def test_data_is_the_posterior_mean_by_quadrature(labels):
    schedule = SCHEDULES['flow']
    x_t = states() * 0.7
    for i, t in enumerate([0.3, 0.5, 0.8]):
        alpha, sigma = schedule.levels(t)
        label = None if labels is None else jnp.broadcast_to(labels[i], len(BOX.points))
        distance = (x_t[i][None] - alpha * BOX.points) / sigma
        log = MIXTURE.log_density(BOX.points, label) - 0.5 * jnp.sum(distance**2, axis=1)
        wanted = jax.nn.softmax(log) @ BOX.points
        one = None if labels is None else labels[i : i + 1]
        found = MIXTURE.under(schedule).data(x_t[i : i + 1], t, one)
        np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('label', [None, 0, 1, 2])
def test_densities_are_normalised(label):
    exact = MIXTURE.under(SCHEDULES['trigflow'])
    labels = None if label is None else jnp.full(len(BOX.points), label)
    for t in (0.0, 0.3):
        density = jnp.exp(exact.log_density(BOX.points, t, labels))
        assert quadrature.integral(density, BOX.volume) == pytest.approx(1, abs=1e-4)


def test_without_noise_it_is_the_mixture_itself():
    exact = MIXTURE.under(SCHEDULES['flow'])
    np.testing.assert_allclose(
        exact.log_density(states(), 0.0, LABELS), MIXTURE.log_density(states(), LABELS), rtol=1e-6
    )
    np.testing.assert_allclose(exact.data(states(), 0.0), states(), rtol=1e-5, atol=1e-5)
    slope = jax.grad(lambda x: jnp.sum(MIXTURE.log_density(x)))(states())
    np.testing.assert_allclose(exact.score(states(), 0.0), slope, rtol=1e-3, atol=1e-3)


def test_in_pure_noise_the_mean_is_expected():
    found = MIXTURE.under(SCHEDULES['flow']).data(states(), 1.0)
    np.testing.assert_allclose(found, np.broadcast_to(MIXTURE.mean(), (5, 2)), atol=1e-6)


def test_the_null_class_is_everything():
    exact = MIXTURE.under(SCHEDULES['flow'])
    null = jnp.full(5, MIXTURE.classes)
    np.testing.assert_allclose(exact.data(states(), TIMES, null), exact.data(states(), TIMES), rtol=1e-6)


def test_responsibilities_are_those_of_the_class():
    found = MIXTURE.under(SCHEDULES['flow']).responsibilities(states(), TIMES, LABELS)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(found[0], [1, 0, 0])
    assert found[1, 0] == 0 and found[2, 0] > 0


def test_round_components_are_full_ones_with_equal_variances():
    means = [[0.0, 1.0], [2.0, -1.0]]
    round_ones = diffusion.isotropic(means, [0.3, 0.5])
    full_ones = diffusion.full(means, [0.09 * np.eye(2), 0.25 * np.eye(2)])
    for schedule in (SCHEDULES[name] for name in THREE):
        found, wanted = (m.under(schedule).data(states(), TIMES) for m in (round_ones, full_ones))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', THREE)
def test_the_law_of_samples(name):
    """Mean and covariance of 20000 noised draws, within five standard errors."""
    x_t = MIXTURE.under(SCHEDULES[name]).sample(20_000, 0.3, key=jax.random.key(0))
    alpha, sigma = SCHEDULES[name].levels(0.3)
    covariance = alpha**2 * MIXTURE.covariance() + sigma**2 * np.eye(2)
    error = 5 * float(np.sqrt(np.max(np.linalg.eigvalsh(covariance)) / 20_000))
    np.testing.assert_allclose(x_t.mean(axis=0), alpha * MIXTURE.mean(), atol=error)
    np.testing.assert_allclose(np.cov(x_t.T), covariance, atol=3 * error * float(np.sqrt(covariance.max())))


def test_draws_are_of_the_classes_asked_for():
    labels = jnp.array([0, 1] * 500)
    x, drawn = MIXTURE.sample_labelled(1000, key=jax.random.key(1), labels=labels)
    np.testing.assert_array_equal(drawn, labels)
    np.testing.assert_allclose(x[::2].mean(axis=0), [1.0, 0.5], atol=0.1)
    free = MIXTURE.sample_labelled(4000, key=jax.random.key(2))[1]
    assert free.mean() == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize('name', THREE)
def test_the_ode_map_of_a_gaussian_solves_the_ode(name):
    """Its derivative in time is the velocity at where it leads, and it comes back."""
    schedule = SCHEDULES[name]
    with jax.enable_x64(True):
        exact, denoiser = one_gaussian().under(schedule), one_gaussian().denoiser(schedule)
        x_t = jnp.asarray(states(), float)
        to, width = 0.4003, 1e-6
        there = exact.ode_map(x_t, 0.9, to)
        rate = (exact.ode_map(x_t, 0.9, to + width) - exact.ode_map(x_t, 0.9, to - width)) / (2 * width)
        np.testing.assert_allclose(rate, denoiser.velocity(there, to), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(exact.ode_map(there, to, 0.9), x_t, rtol=1e-9)


def test_the_ode_map_carries_the_law():
    gaussian = one_gaussian()
    exact = gaussian.under(SCHEDULES['flow'])
    noise = jax.random.normal(jax.random.key(4), (20_000, 2))
    x = exact.ode_map(noise, 1.0, 0.0)
    np.testing.assert_allclose(x.mean(axis=0), gaussian.mean(), atol=0.03)
    np.testing.assert_allclose(np.cov(x.T), gaussian.covariance(), atol=0.03)


def test_mixtures_pass_through_jit_and_vmap():
    def density(mixture, x):
        return mixture.under(SCHEDULES['flow']).log_density(x, 0.4)

    np.testing.assert_allclose(jax.jit(density)(MIXTURE, states()), density(MIXTURE, states()), rtol=1e-5)
    both = jax.tree.map(lambda a: jnp.stack([a, a]), MIXTURE)
    stacked = jax.vmap(density, in_axes=(0, None))(both, states())
    np.testing.assert_allclose(stacked[1], density(MIXTURE, states()), rtol=1e-5)


GENERATOR = diffusion.LinearGenerator(jnp.array([[0.6, 0.1], [0.2, 0.5]]), jnp.array([0.3, -0.2]))


def test_the_linear_generator_has_the_law_of_its_samples():
    schedule = SCHEDULES['cosine']
    mean, covariance = GENERATOR.law(schedule, 0.3)
    z, noise = jax.random.normal(jax.random.key(5), (2, 20_000, 2))
    x_t = schedule.noised(GENERATOR(z), noise, 0.3)
    np.testing.assert_allclose(x_t.mean(axis=0), mean, atol=0.03)
    np.testing.assert_allclose(np.cov(x_t.T), covariance, atol=0.03)


@pytest.mark.parametrize('name', THREE)
def test_the_linear_generator_is_a_gaussian(name):
    schedule = SCHEDULES[name]
    twin = diffusion.gaussian(GENERATOR.shift, GENERATOR.matrix @ GENERATOR.matrix.T)
    found = GENERATOR.denoiser(schedule).data(states(), TIMES)
    np.testing.assert_allclose(found, twin.under(schedule).data(states(), TIMES), rtol=2e-3, atol=2e-4)
    density = GENERATOR.log_density(states(), schedule, 0.4)
    np.testing.assert_allclose(density, twin.under(schedule).log_density(states(), 0.4), rtol=1e-4)


def test_constant_generators_have_no_gradient():
    def loss(generator, x):
        return jnp.sum(generator.constant().denoiser(SCHEDULES['flow']).score(x, 0.5))

    by_parameters, by_x = jax.grad(loss, argnums=(0, 1))(GENERATOR, states())
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(by_parameters))
    assert np.any(by_x)


def test_divergences_of_gaussians_are_those_by_quadrature():
    schedule, teacher = SCHEDULES['flow'], one_gaussian()
    other = diffusion.LinearGenerator(jnp.linalg.cholesky(teacher.covariance()), teacher.mean())
    first, second = GENERATOR.law(schedule, 0.3), other.law(schedule, 0.3)

    def log_p(x):
        return GENERATOR.log_density(x, schedule, 0.3)

    by_sum = quadrature.kl(log_p, lambda x: teacher.under(schedule).log_density(x, 0.3), BOX)
    np.testing.assert_allclose(diffusion.gaussian_kl(first, second), by_sum, rtol=1e-4)

    def squared(x):
        mine = GENERATOR.denoiser(schedule).score(x, 0.3)
        return jnp.sum((mine - teacher.under(schedule).score(x, 0.3)) ** 2, axis=1)

    by_sum = quadrature.expectation(squared, log_p, BOX)
    np.testing.assert_allclose(diffusion.gaussian_fisher(first, second), by_sum, rtol=1e-3)
    assert diffusion.gaussian_kl(first, first) == pytest.approx(0, abs=1e-6)


def test_quadrature_in_one_dimension():
    line = quadrature.grid(-8, 8, 400, dim=1)

    def normal(mean):
        return lambda x: -0.5 * (x[:, 0] - mean) ** 2 - 0.5 * np.log(2 * np.pi)

    assert quadrature.kl(normal(0.0), normal(1.0), line) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: diffusion.isotropic([0.0, 1.0], 0.1), r'means have shape \(2,\): give \[components, dim\]'),
        (lambda: diffusion.isotropic([[0.0], [1.0]], [0.1] * 3), r'deviations have shape \(3,\)'),
        (lambda: diffusion.isotropic([[0.0]], 0.0), 'a component has variance 0'),
        (lambda: diffusion.isotropic([[0.0]], 1.0, weights=[-1.0]), r'weights \[-1.0\] of 1 components'),
        (lambda: diffusion.isotropic([[0.0]], 1.0, component_classes=[3]), r'classes \[3\] of 1 components'),
        (lambda: diffusion.full([[0.0, 1.0]], [np.eye(3)]), r'covariances \(1, 3, 3\)'),
        (lambda: diffusion.full([[0.0, 1.0]], [[[1.0, 0.5], [0.0, 1.0]]]), 'a covariance is not symmetric'),
        (lambda: MIXTURE.under(SCHEDULES['flow']).ode_map(states(), 0.9, 0.1), 'the exact ODE map of 3 components'),
        (lambda: one_gaussian().under(SCHEDULES['flow']).data(states(), 0.5, LABELS), 'labels for a mixture without'),
        (lambda: quadrature.grid(0, 1, dim=3), 'a grid of 3 dimensions'),
    ],
)
def test_mixtures_that_make_no_sense_are_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()
