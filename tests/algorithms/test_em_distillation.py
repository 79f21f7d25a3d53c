"""EM distillation on Gaussians: its expected gradient is that of the exact chain, and of the divergences it descends.

The generator is linear and both scores are exact, so that the chain is affine in its normal draws, and the loss and its
gradient are quadratic in them: their means over the points +-sqrt(n) of each of n draws are their expectations.
"""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import langevin_laws as laws
import numpy as np
import pytest

from kdjax.algorithms.generators import Langevin, em_distillation
from kdjax.diffusion import Cosine, Denoiser, LinearGenerator
from kdjax.errors import UserError

SCHEDULE = Cosine()
STUDENT = LinearGenerator(jnp.asarray(laws.MATRIX, jnp.float32), jnp.asarray(laws.SHIFT, jnp.float32))
LOW, HIGH = 0.4, 0.7
"""Times where sigma is below alpha, and above it."""
DRAWS = 9 * laws.BOTH
"""Of one example: the latent and the noise at the start, and again at each of at most eight steps."""


class Cubature:
    """Takes the place of `jax.random.normal`: first the noise at the start, then a draw of its own for each key."""

    def __init__(self, law):
        mean, covariance = law
        points = np.sqrt(DRAWS) * np.concatenate([np.eye(DRAWS), -np.eye(DRAWS)])
        start = mean + points[:, : laws.BOTH] @ np.linalg.cholesky(covariance).T
        self.latent, self.keys = jnp.asarray(start[:, : laws.LATENTS], jnp.float32), set()
        self.rest = np.hstack([start[:, laws.LATENTS :], points[:, laws.BOTH :]])

    def __call__(self, key, shape, dtype):
        name = jax.random.key_data(key).tobytes()
        assert name not in self.keys
        self.keys.add(name)
        draw, self.rest = self.rest[:, : shape[1]], self.rest[:, shape[1] :]
        assert draw.shape == shape
        return jnp.asarray(draw, dtype)


def levels(time):
    return tuple(float(level) for level in SCHEDULE.levels(time))


def denoiser(mean, covariance, time):
    """Of a Gaussian, at one time: its noise is -sigma times its score."""
    alpha, sigma = levels(time)
    centre, slope = (jnp.asarray(a, jnp.float32) for a in (alpha * mean, sigma * np.linalg.inv(covariance)))
    return Denoiser(lambda x_t, t, condition: (x_t - centre[None]) @ slope, SCHEDULE, 'noise')


def expected(langevin, time, law=laws.STANDARD, weight=None):
    """The mean of the loss, and its gradient in the generator; uncompiled, as a compiled loop would hide its keys."""
    teacher, own = laws.covariances(*levels(time))
    real, fake = denoiser(laws.MEAN, teacher, time), denoiser(laws.SHIFT, own, time)
    draws = Cubature(law)

    def at_time(x, schedule, *, key):
        return x, jnp.full(x.shape[:1], time)

    def mean(student):
        options = {'langevin': langevin, 'noising': at_time, 'weight': weight, 'key': jax.random.key(0)}
        return jnp.mean(em_distillation(student, draws.latent, None, real, fake, **options))

    with mock.patch.object(jax.random, 'normal', draws), jax.disable_jit():
        value, slope = jax.value_and_grad(mean)(STUDENT)
    return float(value), laws.flat(slope.matrix, slope.shift)


def exact(langevin, time):
    end = laws.moved(langevin, laws.STANDARD, *levels(time))
    return laws.value_and_gradient(end, *levels(time))


def off(found, right):
    """Relative error."""
    return np.linalg.norm(found - right) / np.linalg.norm(right)


CHAINS = {
    'one_step_of_both': (Langevin(1, 0.3, 0.4), LOW),
    'one_step_of_both_cancelled': (Langevin(1, 0.3, 0.4, 'injected'), HIGH),
    'two_steps_of_the_noise': (Langevin(2, 0.3, 0.0), LOW),
    'two_steps_of_both': (Langevin(2, 0.3, 0.4), HIGH),
    'two_steps_of_both_decayed': (Langevin(2, 0.3, 0.4, 'decayed'), LOW),
    'eight_steps_of_the_noise_cancelled': (Langevin(8, 0.1, 0.0, 'injected'), HIGH),
    'eight_steps_of_both': (Langevin(8, 0.1, 0.2), LOW),
    'eight_steps_of_both_cancelled': (Langevin(8, 0.1, 0.2, 'injected'), LOW),
    'eight_steps_of_both_decayed': (Langevin(8, 0.1, 0.2, 'decayed'), HIGH),
}


@pytest.mark.parametrize('name', CHAINS)
def test_the_expected_gradient_is_that_of_the_exact_chain(name):
    """So the chain holds the generator whose parameters learn, too: nothing passes through it."""
    value, slope = expected(*CHAINS[name])
    right, right_slope = exact(*CHAINS[name])
    assert off(slope, right_slope) < 1e-5
    assert value == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize(('cancels', 'time'), [('nothing', LOW), ('injected', HIGH), ('decayed', LOW)])
def test_one_step_of_the_noise_is_the_reverse_kl(cancels, time):
    """Times the size of the step, whatever that is."""
    slope = expected(Langevin(1, 0.5, 0.0, cancels), time)[1]
    assert off(slope, 0.5 * laws.slope_of_kl(*levels(time), reverse=True)) < 1e-5


@pytest.mark.parametrize('time', [LOW, HIGH])
def test_where_the_chain_stays_the_gradient_is_that_of_the_forward_kl(time):
    """But for the bias of steps of 0.01, of second order; a chain that starts elsewhere has gone a tenth of the way."""
    found = expected(Langevin(8, 0.01, 0.01), time, laws.target(*levels(time)))[1]
    right = laws.slope_of_kl(*levels(time), reverse=False)
    assert off(found, right) < 1e-3
    assert off(laws.slope_of_kl(*levels(time), reverse=True), right) > 0.2


@pytest.mark.parametrize('time', [LOW, HIGH])
def test_many_steps_lead_there(time):
    """By the exact chain."""
    right = laws.slope_of_kl(*levels(time), reverse=False)
    assert off(exact(Langevin(8, 0.05, 0.05), time)[1], right) > 0.5
    assert off(exact(Langevin(300, 0.05, 0.05), time)[1], right) < 1e-3


def test_cancelled_noise_leaves_the_mean_and_takes_variance():
    """But for what has passed from the draws into the latent meanwhile: some hundredths."""
    run = functools.partial(Langevin, 8, 0.02, 0.02)
    (value, slope), *cancelled = (expected(run(c), LOW) for c in ('nothing', 'injected', 'decayed'))
    for less, other in cancelled:
        assert off(other, slope) < 0.04
        assert less < 0.75 * value  # half the second moment of the noise, whose mean is next to nothing


def test_a_weight_multiplies():
    langevin = Langevin(1, 0.3, 0.4)
    value, slope = expected(langevin, LOW, weight=lambda alpha, sigma: jnp.square(sigma / alpha))
    alpha, sigma = levels(LOW)
    right, right_slope = exact(langevin, LOW)
    assert value == pytest.approx((sigma / alpha) ** 2 * right, rel=1e-5)
    assert off(slope, (sigma / alpha) ** 2 * right_slope) < 1e-5


REFUSED = {
    'steps': (lambda: Langevin(0), '0 Langevin steps of sizes 0.05 and 0.05: at least one step'),
    'sizes': (lambda: Langevin(2, 0.0), 'the noise moves, and the latent moves or stays'),
    'cancels': (lambda: Langevin(cancels='all'), "cancels='all': choose one of nothing, injected, decayed"),
}


@pytest.mark.parametrize('name', REFUSED)
def test_refused_chains(name):
    make, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        make()
