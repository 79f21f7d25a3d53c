"""Weights of f-divergences against the divergences themselves, guidance in one network, and what is refused."""

import functools

import generator_identities as gaussians
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.distribution_matching import DIVERGENCES

F = {
    'kl_reverse': lambda r: -jnp.log(r),
    'kl_forward': lambda r: r * jnp.log(r),
    'jensen_shannon': lambda r: r * jnp.log(2 * r / (1 + r)) + jnp.log(2 / (1 + r)),
    'squared_hellinger': lambda r: 2 * (jnp.sqrt(r) - 1) ** 2,
    'jeffreys': lambda r: (r - 1) * jnp.log(r),
    'softened_kl_reverse': lambda r: (1 + r) * jnp.log((1 + r) / r),
    'neyman': lambda r: 0.5 / r,
}
"""f with f''(r) r^2 = h(r), constants included."""


def test_every_divergence_is_compared():
    assert set(F) == set(DIVERGENCES)


@pytest.mark.parametrize('name', F)
def test_the_weighted_gradient_is_that_of_the_divergence(name):
    """In (m, s) of a Gaussian generator, against D_f by the trapezoidal rule on a line, to 1e-6."""
    with jax.enable_x64(True):
        line = jnp.linspace(-12.0, 12.0, 4001)

        def divergence(m, s):
            q, p = (jnp.exp(gaussians.log_density(line, *law)) for law in ((m, s), gaussians.TEACHER))
            return jnp.sum(q * F[name](p / q)) * (line[1] - line[0])

        def loss(x, real, fake):
            x_t = jax.lax.stop_gradient(noised(fake))[:, 0]
            log_p, log_q = (gaussians.log_density(x_t, *law) for law in (gaussians.TEACHER, gaussians.STUDENT))
            ratio = jnp.exp(log_p - log_q)
            h = losses.f_weight(ratio, divergence=name, clip=None, normalise=False)
            return losses.distribution_matching(x, real, fake, h * SNR, normaliser='none')

        got, wanted = gaussians.expected(loss), gaussians.slopes(divergence)
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)
        assert float(jnp.linalg.norm(wanted)) > 1e-2


SNR = (gaussians.ALPHA / gaussians.SIGMA) ** 2


def noised(fake):
    """x_t from the exact denoiser of the student, which is linear in it."""
    mean, variance = gaussians.law(*gaussians.STUDENT)
    share = gaussians.SIGMA**2 / variance
    return (gaussians.ALPHA * fake - share * mean) / (1 - share)


def test_weights_are_normalised_by_their_mean_over_who_counts():
    ratio = jnp.asarray([0.5, 2.0, jnp.nan, 100.0])
    where = jnp.asarray([True, True, False, True])
    weight = losses.f_weight(ratio, divergence='kl_forward', where=where)
    np.testing.assert_allclose(weight, np.array([0.5, 2.0, 0.0, 20.0]) * 3 / 22.5, rtol=1e-6)
    assert losses.f_weight(ratio[:1]).dtype == jnp.float32
    slope = jax.grad(lambda r: jnp.sum(losses.f_weight(r, normalise=False)))(ratio[:2])
    np.testing.assert_array_equal(slope, 0.0)


def test_ratios_are_divided_by_the_mean_of_their_time():
    ratio, t = jnp.asarray([1.0, 3.0, 5.0, jnp.nan]), jnp.asarray([0.1, 0.2, 1.0, jnp.nan])
    where = jnp.asarray([True, True, True, False])
    divided, bins = losses.by_time(ratio, t, jnp.asarray([1.0, 1.0, 1.0]), where=where)
    np.testing.assert_allclose(bins, [2.0, 1.0, 5.0], rtol=1e-6)
    np.testing.assert_allclose(divided, [0.5, 1.5, 1.0, 0.0], rtol=1e-6)
    _, slow = losses.by_time(ratio, t, bins, decay=0.5, where=where)
    np.testing.assert_allclose(slow, [2.0, 1.0, 5.0], rtol=1e-6)
    _, moved = losses.by_time(3 * ratio, t, bins, decay=0.5, where=where)
    np.testing.assert_allclose(moved, [4.0, 1.0, 10.0], rtol=1e-6)


def test_guidance_is_distilled_into_one_pass():
    """The best linear fit of a guided Gaussian score is that score: two Gaussians guide to a line."""
    with jax.enable_x64(True):
        weights, z, noise = map(jnp.asarray, gaussians.nodes())
        x_t = gaussians.ALPHA * z + gaussians.SIGMA * noise
        null, condition = gaussians.score(x_t, 0.0, 1.5), gaussians.score(x_t, 1.0, 0.5)
        guided = null + 3 * (condition - null)

        def mean(slope, shift):
            return jnp.sum(weights * losses.hint_mse((slope * x_t + shift)[:, None], guided[:, None]))

        slope = (guided[1] - guided[0]) / (x_t[1] - x_t[0])
        there = gaussians.slopes(mean, slope, guided[0] - slope * x_t[0])
        np.testing.assert_allclose(there, 0.0, atol=1e-9)


X, LEVELS = jnp.zeros((4, 3)), jnp.full(4, 0.5)
REFUSED = {
    'other samples': (
        lambda: losses.distribution_matching(X, X, jnp.zeros((4, 2))),
        r'fake has shape \(4, 2\), x \(4, 3\): pair the samples one to one',
    ),
    'levels': (
        lambda: losses.denoising(X, X, LEVELS[:2], LEVELS),
        r'alpha has shape \(2,\), the batch \(4,\): give one for each example',
    ),
    'no features': (lambda: losses.flow_matching(LEVELS, LEVELS, LEVELS), 'samples need a batch axis and at least one'),
    'unit': (lambda: losses.denoising(X, X, LEVELS, LEVELS, unit='eps'), "unit is 'eps': choose one of 'data'"),
    'normaliser': (lambda: losses.score_identity(X, X, X, normaliser='batch'), "normaliser is 'batch': choose one of"),
    'distance': (lambda: losses.score_implicit_matching(X, X, X, distance='l1'), "distance is 'l1': choose one of"),
    'c': (lambda: losses.consistency(X, X, c=0), 'c is 0: it has to be above 0'),
    'divergence': (lambda: losses.f_weight(LEVELS, divergence='kl'), "divergence is 'kl': choose one of 'kl_reverse'"),
    'tangent form': (
        lambda: losses.consistency_tangent(X, X, X, X, LEVELS, form='fastgen'),
        "form is 'fastgen': choose one of 'scm', 'rcm'",
    ),
    'adversarial form': (lambda: losses.adversarial_generator(X, form='wgan'), "form is 'wgan': choose one of"),
    'weights of scores': (lambda: losses.score_weight(LEVELS, LEVELS, weight='sds'), "weight is 'sds': choose one of"),
    'two levels': (lambda: losses.score_weight(LEVELS, LEVELS[:2]), r'sigma has shape \(2,\), alpha \(4,\)'),
    'clip': (lambda: losses.distilled_score(X, X, clip=0), 'clip is 0: it has to be above 0'),
    'constant': (lambda: losses.mean_flow(X, X, constant=0), 'constant is 0: it has to be above 0'),
    'times': (lambda: losses.by_time(LEVELS, LEVELS[:2], LEVELS), r't has shape \(2,\), the ratio \(4,\)'),
    'decay': (lambda: losses.by_time(LEVELS, LEVELS, LEVELS, decay=2), 'decay is 2: it has to lie between 0 and 1'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_directions_are_clipped_entry_by_entry():
    slope = jax.grad(lambda x: jnp.sum(losses.distilled_score(x, jnp.asarray([[3.0, -0.1]]), clip=1)))(jnp.ones((1, 2)))
    np.testing.assert_allclose(slope, [[1.0, -0.1]], rtol=1e-6)


def test_a_sample_that_is_its_teacher_s_has_a_finite_gradient():
    """mean |x - real| = 0: DMD's code divides by it and drops the NaN."""
    matched = functools.partial(losses.distribution_matching, real=X, fake=X + 1e-6)
    assert np.isfinite(jax.grad(lambda x: jnp.sum(matched(x)))(X)).all()
