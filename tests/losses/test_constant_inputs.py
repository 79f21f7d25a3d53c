"""What does not vary has no correlation: rounding errors are not scaled up to a signal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses

OTHER = jax.random.normal(jax.random.key(0), (7, 5))


@pytest.mark.parametrize('constant', [0.0, 0.1, 0.2, -1e4 / 3])
@pytest.mark.parametrize(('name', 'value'), [('pearson', 1.0), ('dist', 2.0), ('cka', 1.0)])
def test_uncorrelated_without_gradient(name, value, constant):
    """As at the start of a student whose last layer is zero: all logits equal."""
    student = jnp.full((7, 5), constant)
    loss = getattr(losses, name)
    values, pullback = jax.vjp(lambda s: loss(s, OTHER), student)
    np.testing.assert_allclose(values, value, rtol=1e-6)
    np.testing.assert_array_equal(pullback(jnp.ones(7))[0], 0.0)


def test_standardised_constants_are_zero_without_gradient():
    values, pullback = jax.vjp(losses.standardize, jnp.full((2, 5), 0.1))
    np.testing.assert_array_equal(values, 0.0)
    np.testing.assert_array_equal(pullback(OTHER[:2])[0], 0.0)
