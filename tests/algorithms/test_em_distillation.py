"""EM distillation on Gaussians in one dimension: one step is the reverse KL, many steps are the forward KL.

Expected gradients by many samples. The chain of a teacher that is the generator itself has the mean gradient zero: with
the same draws it is subtracted, and little of the variance is left.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_matching_objectives import (
    ALPHA,
    FAKE,
    REAL,
    SCHEDULE,
    SIGMA,
    STUDENT,
    TEACHER,
    TIME,
    kl,
    law,
    slopes,
)

from kdjax.algorithms.generators import Langevin, em_distillation
from kdjax.errors import UserError

KEY = jax.random.key(1)


def at_time(x, schedule, *, key):
    t = jnp.full(x.shape[:1], TIME)
    return x, t


def each(langevin, chains, teacher=REAL):
    """The gradient in (m, s) of each chain, `[chains, 2]`."""
    z = jax.random.normal(KEY, (chains, 1))

    def values(m, s):
        return em_distillation(
            lambda latent: m + s * latent, z, None, teacher, FAKE, langevin=langevin, noising=at_time, key=KEY
        )

    return np.stack(jax.jit(jax.jacfwd(values, argnums=(0, 1)))(*STUDENT), axis=1)


def mean_and_error(values):
    return values.mean(axis=0), values.std(axis=0) / np.sqrt(len(values))


def forward_kl(m, s):
    """KL(p_t || q_t)."""
    (mean, variance), (mean_, variance_) = law(*TEACHER), law(m, s)
    return 0.5 * (variance / variance_ + (mean - mean_) ** 2 / variance_ - 1 - jnp.log(variance / variance_))


def test_one_step_of_the_noise_is_the_reverse_kl():
    langevin = Langevin(1, 0.5, 0.0)
    found, error = mean_and_error(each(langevin, 2**16) - each(langevin, 2**16, FAKE))
    right = 0.5 * slopes(kl)
    assert (np.abs(found - right) < 4 * error).all() and (error < 0.01 * np.linalg.norm(right)).all()


def test_many_steps_of_both_are_the_forward_kl():
    """And nothing like the reverse one; the bias of Langevin steps of 0.05 is about two per cent."""
    langevin = Langevin(260, 0.05, 0.05 * (ALPHA / SIGMA) ** 2)
    found, error = mean_and_error(each(langevin, 2**14) - each(langevin, 2**14, FAKE))
    right = slopes(forward_kl)
    assert (np.abs(found - right) < 4 * error + 0.04 * np.linalg.norm(right)).all()
    assert np.linalg.norm(found - slopes(kl)) > 5 * np.linalg.norm(found - right)


def test_cancelled_noise_leaves_the_mean_and_takes_variance():
    """But for what has passed from the draws into the latent meanwhile: some hundredths, of a gradient of 1.3."""
    run = functools.partial(Langevin, 16, 0.02, 0.02)
    plain, injected, decayed = (each(run(c), 2**14) for c in ('nothing', 'injected', 'decayed'))
    for values in (injected, decayed):
        change, error = mean_and_error(values - plain)
        assert (np.abs(change) < 4 * error + 0.05).all()
        assert (values.std(axis=0) < 0.9 * plain.std(axis=0)).all()


def test_the_chain_holds_the_generator_whose_parameters_learn():
    """The gradient is -(alpha / sigma) noise dx, with nothing through the chain."""
    z = jax.random.normal(KEY, (4, 1))
    langevin = Langevin(3, 0.1, 0.1)

    def values(shift):
        return em_distillation(
            lambda latent: shift + latent, z, None, REAL, FAKE, langevin=langevin, noising=at_time, key=KEY
        )

    found, value = jax.jacfwd(values)(0.3), values(0.3)
    np.testing.assert_allclose(jnp.square(found), 2 * value * (ALPHA / SIGMA) ** 2, rtol=1e-4)
    halved = em_distillation(
        lambda latent: 0.3 + latent, z, None, REAL, FAKE, langevin=langevin, noising=at_time, key=KEY,
        weight=lambda alpha, sigma: 0.5 * jnp.ones_like(sigma),
    )  # fmt: skip
    np.testing.assert_allclose(halved, 0.5 * value, rtol=1e-6)
    assert SCHEDULE is REAL.schedule


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
