"""Round mixtures say what mixtures with axes say, at the price of two products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.diffusion import Discrete, Flow, isotropic
from kdjax.diffusion.round import particle_law, round_mixture
from kdjax.errors import UserError

MEANS = np.array([[1.0, 0.0, 0.2], [-0.5, 1.0, 0.0], [0.0, -1.0, 1.0]])
DEVIATIONS = np.array([0.2, 0.5, 0.3])
WEIGHTS = np.array([1.0, 2.0, 3.0])
X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)
LABELS = jnp.arange(6) % 3


def both():
    """Two classes and the null class, as `isotropic` numbers them."""
    rows = WEIGHTS[None] * np.array([[1, 1, 0], [0, 0, 1], [1, 1, 1]])
    same = isotropic(MEANS, DEVIATIONS, weights=WEIGHTS, component_classes=[0, 0, 1])
    return round_mixture(MEANS, DEVIATIONS, rows), same


@pytest.mark.parametrize(
    ('schedule', 't'), [(Discrete.from_betas([0.01, 0.1, 0.3]), 0.5), (Flow(), 0.02), (Flow(), 1.0)]
)
def test_it_is_the_mixture_with_axes(schedule, t):
    ours, same = both()
    noised = same.under(schedule)
    np.testing.assert_allclose(ours.data(X, schedule, t, LABELS), noised.data(X, t, LABELS), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        ours.log_density(X, LABELS, schedule, t), noised.log_density(X, t, LABELS), rtol=1e-4, atol=1e-4
    )
    found = ours.responsibilities(X, LABELS, schedule, t)
    np.testing.assert_allclose(found, noised.responsibilities(X, t, LABELS), atol=1e-5)


def test_without_a_schedule_it_is_the_law_of_the_data():
    ours, same = both()
    np.testing.assert_allclose(ours.log_density(X, LABELS), same.log_density(X, LABELS), rtol=1e-4, atol=1e-4)


def test_samples_have_the_components_of_their_label():
    ours, _ = both()
    x = ours.sample(jnp.ones(4000, jnp.int32), key=jax.random.key(0))
    np.testing.assert_allclose(x.mean(0), MEANS[2], atol=5 * 0.3 / 4000**0.5)
    np.testing.assert_allclose(x.std(0), 0.3, rtol=0.06)


def test_pictures_are_flattened_for_the_denoiser():
    ours, _ = both()
    flat = ours.denoiser(Flow()).data(X, 0.5, LABELS)
    np.testing.assert_array_equal(ours.denoiser(Flow()).data(X.reshape(6, 3, 1, 1), 0.5, LABELS).reshape(6, 3), flat)


def test_particles_of_a_label_are_a_mixture_of_their_own():
    law = particle_law(X, LABELS, jnp.asarray(0.3))
    alone = isotropic(np.asarray(X)[LABELS == 1], 0.3)
    x = X + 0.1
    found = law.data(x, Flow(), 0.5, jnp.arange(6))[np.asarray(LABELS) == 1]
    np.testing.assert_allclose(found, alone.under(Flow()).data(x[np.asarray(LABELS) == 1], 0.5), rtol=1e-4, atol=1e-5)


def test_what_is_refused():
    with pytest.raises(UserError, match=r'means have shape \(3, 3\), weights \(1, 2\)'):
        round_mixture(MEANS, 0.1, [[1.0, 1.0]])
    with pytest.raises(UserError, match='a component has deviation 0: every one is above 0'):
        round_mixture(MEANS, 0.0, [WEIGHTS])
    with pytest.raises(UserError, match=r'condition 1 has weights .*: none below 0, and not all 0'):
        round_mixture(MEANS, 0.1, [WEIGHTS, 0 * WEIGHTS])
