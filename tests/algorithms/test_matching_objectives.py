"""Objectives of generators as wholes: their expected gradients on Gaussians, against closed forms.

Teacher and generator are Gaussians in one dimension, x = m + s z, and the fake score is exact. Means over z and the
noise are Gauss-Hermite sums, exact for polynomials; where draws cannot be summed, many samples with a standard error.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.algorithms.generators import (
    EVERYWHERE,
    Even,
    LogNormal,
    denoising,
    discrimination,
    distribution_matching,
    divergence_matching,
    judge,
    persuasion,
    score_identity,
    score_implicit_matching,
    snr,
)
from kdjax.diffusion import Cosine, Denoiser, Karras
from kdjax.errors import UserError
from kdjax.models.model import Outputs

KEY = jax.random.key(0)
SCHEDULE = Cosine()
TIME = 0.4
ALPHA, SIGMA = (float(level) for level in SCHEDULE.levels(TIME))
TEACHER, STUDENT = (0.4, 1.5), (-0.3, 0.8)


def law(m, s):
    """Mean and variance of x_t."""
    return ALPHA * m, (ALPHA * s) ** 2 + SIGMA**2


def log_density(x_t, m, s):
    mean, variance = law(m, s)
    return -0.5 * (x_t - mean) ** 2 / variance - 0.5 * jnp.log(2 * jnp.pi * variance)


def data_of(x_t, m, s):
    """E[x | x_t]."""
    mean, variance = law(m, s)
    return m + ALPHA * s**2 / variance * (x_t - mean)


def denoiser(m, s, name='gaussian'):
    return Denoiser(lambda x_t, t, condition: data_of(x_t, m, s), SCHEDULE, 'data', name=name)


REAL, FAKE = denoiser(*TEACHER), denoiser(*STUDENT)


@functools.cache
def nodes(count=48):
    """(weights, z, noise) of the product rule, flat."""
    z, w = np.polynomial.hermite_e.hermegauss(count)
    pairs = np.meshgrid(z, z, indexing='ij')
    flat = np.outer(w, w).ravel() / (2 * np.pi), pairs[0].ravel(), pairs[1].ravel()
    return tuple(np.asarray(a, np.float32) for a in flat)


def summed(x, schedule, *, key):
    """A noising of which every draw is summed over: the noise of the nodes, at one time."""
    t = jnp.full(x.shape[:1], TIME)
    return schedule.noised(x, jnp.asarray(nodes()[2])[:, None], t), t


def expected(objective):
    """The gradient in (m, s) of the mean of `objective(x)`."""
    weights, z, _ = map(jnp.asarray, nodes())

    def mean(m, s):
        return jnp.sum(weights * objective((m + s * z)[:, None]))

    return np.stack(jax.jit(jax.grad(mean, argnums=(0, 1)))(*STUDENT))


def line():
    """Points of x_t and the width of a cell, far beyond both laws."""
    points = np.linspace(-12.0, 12.0, 4801, dtype=np.float32)
    return jnp.asarray(points), 24.0 / 4800


def slopes(divergence):
    """The gradient in (m, s) of a function of the generator's law."""
    return np.stack(jax.grad(divergence, argnums=(0, 1))(*STUDENT))


def kl(m, s):
    """KL(q_t || p_t)."""
    (mean, variance), (mean_, variance_) = law(m, s), law(*TEACHER)
    return 0.5 * (variance / variance_ + (mean - mean_) ** 2 / variance_ - 1 - jnp.log(variance / variance_))


def close(found, right, relative=1e-3):
    assert np.linalg.norm(found - right) <= relative * np.linalg.norm(right), (found, right)


def test_distribution_matching_descends_the_reverse_kl():
    matched = functools.partial(distribution_matching, normaliser='none', noising=summed, key=KEY)
    close(expected(lambda x: matched(x, None, REAL, FAKE, weight=snr)), slopes(kl))
    close(expected(lambda x: matched(x, None, REAL, FAKE)), slopes(kl) * SIGMA**2 / ALPHA**2)  # Diff-Instruct
    assert not np.any(expected(lambda x: matched(x, None, REAL, REAL)))


DIVERGENCES = {
    'kl_reverse': (lambda r: -jnp.log(r), 1.0),
    'kl_forward': (lambda r: r * jnp.log(r), 1.0),
    'jensen_shannon': (lambda r: r * jnp.log(r) - (1 + r) * jnp.log(0.5 * (1 + r)), 1.0),
    'squared_hellinger': (lambda r: 2 * jnp.square(jnp.sqrt(r) - 1), 1.0),
    'jeffreys': (lambda r: (r - 1) * jnp.log(r), 1.0),
}
"""f of D_f = E_q f(p / q), scaled so that r^2 f'' is the weight without its constant."""


NEAR = (0.4, 1.1)
"""A teacher whose ratio to the generator is nowhere clipped that matters."""


def exact_judge(x_t, t, condition, teacher=TEACHER):
    return log_density(x_t, *teacher) - log_density(x_t, *STUDENT)


@pytest.mark.parametrize('name', DIVERGENCES)
def test_divergence_matching_descends_its_divergence(name):
    f, scale = DIVERGENCES[name]
    x_t, width = line()

    def divergence(m, s):
        log_q = log_density(x_t, m, s)
        return jnp.sum(jnp.exp(log_q) * f(jnp.exp(log_density(x_t, *NEAR) - log_q))) * width

    options = {'divergence': name, 'clip': None, 'bins': 0, 'normalise': False, 'normaliser': 'none', 'weight': snr}
    told = functools.partial(exact_judge, teacher=NEAR)
    found = expected(
        lambda x: divergence_matching(x, None, denoiser(*NEAR), FAKE, told, noising=summed, key=KEY, **options)
    )
    close(found, scale * slopes(divergence))


def test_reverse_kl_is_distribution_matching():
    x = jax.random.normal(KEY, (64, 1))
    plain = distribution_matching(x, None, REAL, FAKE, key=KEY)
    weighed = divergence_matching(x, None, REAL, FAKE, exact_judge, divergence='kl_reverse', key=KEY)
    np.testing.assert_allclose(weighed, plain, rtol=1e-6)


def standing_still(distance):
    """The gradient of the mean of d(fake - real) in the fake score alone, under the law of now."""
    x_t, width = line()
    density = jnp.exp(log_density(x_t, *STUDENT))
    return slopes(lambda m, s: jnp.sum(density * distance(data_of(x_t, m, s) - data_of(x_t, *TEACHER))) * width)


def moving(distance):
    """The gradient of the same in the law alone, both scores those of now."""
    x_t, width = line()
    values = distance(data_of(x_t, *STUDENT) - data_of(x_t, *TEACHER))
    return slopes(lambda m, s: jnp.sum(jnp.exp(log_density(x_t, m, s)) * values) * width)


@pytest.mark.parametrize('alpha', [0.0, 1.0, 1.2])
def test_score_identity_joins_the_two_gradients_of_the_fisher_divergence(alpha):
    """(1 - alpha) |y|^2 moves with the law; the rest is half the gradient under a law that stands still."""
    matched = functools.partial(score_identity, alpha=alpha, normaliser='none', noising=summed, key=KEY)
    right = (1 - alpha) * moving(jnp.square) + 0.5 * standing_still(jnp.square)
    close(expected(lambda x: matched(x, None, REAL, FAKE)), right)


@pytest.mark.parametrize('scale', [None, lambda alpha, sigma: alpha / sigma**2], ids=['data', 'scores'])
@pytest.mark.parametrize('distance', ['squared', 'pseudo_huber'])
def test_score_implicit_matching_has_the_gradient_of_its_distance(distance, scale):
    unit = 1.0 if scale is None else ALPHA / SIGMA**2
    f = {'squared': lambda y: 0.5 * y**2, 'pseudo_huber': lambda y: jnp.sqrt(y**2 + 0.25) - 0.5}[distance]
    matched = functools.partial(score_implicit_matching, distance=distance, c=0.5, scale=scale, noising=summed, key=KEY)
    right = standing_still(lambda y: f(unit * y))
    close(expected(lambda x: matched(x, None, REAL, FAKE)), right, 2e-3)


def test_the_best_follower_is_the_exact_one():
    """Denoising falls from another Gaussian's score to that of the samples, and has no gradient there or in x."""
    weights, z, _ = map(jnp.asarray, nodes())
    x = (STUDENT[0] + STUDENT[1] * z)[:, None]

    def error(m, s):
        return jnp.sum(weights * denoising(x, None, denoiser(m, s), noising=summed, unit='data', key=KEY))

    slope = jax.grad(error, argnums=(0, 1))
    assert np.abs(np.stack(slope(*STUDENT))).max() < 1e-5 < np.abs(np.stack(slope(*TEACHER))).min()
    assert not np.any(jax.grad(lambda x: jnp.sum(denoising(x, None, FAKE, key=KEY)))(x))


def silent(x_t, t, condition):
    return 0.0 * x_t


def test_a_judge_learns_from_constants_and_passes_gradients_to_the_generator():
    said = judge(lambda inputs: Outputs(inputs[0], {'bottleneck': 2.0 * inputs[0]}), lambda taps: Outputs(3.0 * taps))
    x, data = jax.random.normal(KEY, (2, 5, 1))
    np.testing.assert_allclose(said(x, jnp.zeros(5), None), 6.0 * x, rtol=1e-6)
    assert not np.any(jax.grad(lambda x: jnp.sum(discrimination(x, data, None, said, SCHEDULE, key=KEY)))(x))
    assert (jax.grad(lambda x: jnp.sum(persuasion(x, None, said, SCHEDULE, key=KEY)))(x) < 0).all()
    np.testing.assert_allclose(persuasion(x, None, silent, SCHEDULE, key=KEY), np.log(2) * np.ones(5), rtol=1e-6)
    two = discrimination(x, data, None, silent, SCHEDULE, key=KEY)
    np.testing.assert_allclose(two, 2 * np.log(2) * np.ones(5), rtol=1e-6)


def test_the_exact_judge_is_the_best_one():
    """Of logits a l* + b the least loss is at a = 1, b = 0."""
    data = TEACHER[0] + TEACHER[1] * jnp.asarray(nodes()[1])[:, None]
    x = STUDENT[0] + STUDENT[1] * jnp.asarray(nodes()[1])[:, None]
    weights = jnp.asarray(nodes()[0])

    def loss(a, b):
        def said(x_t, t, condition):
            return a * exact_judge(x_t, t, condition) + b

        return jnp.sum(weights * discrimination(x, data, None, said, SCHEDULE, noising=summed, key=KEY))

    assert np.abs(np.stack(jax.grad(loss, argnums=(0, 1))(1.0, 0.0))).max() < 1e-4
    assert float(loss(1.0, 0.0)) < min(float(loss(0.5, 0.0)), float(loss(1.0, 0.5)))


def test_times_are_drawn_as_they_are_said():
    x, schedule = jnp.zeros((4000, 1)), Karras(0.002, 80.0)
    x_t, t = Even(0.2, 0.6)(x, schedule, key=KEY)
    assert 0.2 <= float(t.min()) < 0.21 and 0.59 < float(t.max()) <= 0.6
    assert float(jnp.std(x_t[:, 0] / schedule.sigma(t))) == pytest.approx(1.0, abs=0.05)
    level = jnp.log(schedule.sigma(LogNormal()(x, schedule, key=KEY)[1]))
    assert float(jnp.mean(level)) == pytest.approx(-1.2, abs=0.08)
    assert float(jnp.std(level)) == pytest.approx(1.2, abs=0.08)
    assert float(EVERYWHERE(x, schedule, key=KEY)[1].max()) > 0.99


REFUSED = {
    'times': (lambda: Even(0.5, 1.2), 'times even from 0.5 to 1.2: 0 <= low < high <= 1, data is 0 and noise 1'),
    'deviation': (lambda: LogNormal(0, -1), r'ln sigma ~ N\(0, -1\^2\): a deviation is at least 0'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        make()
