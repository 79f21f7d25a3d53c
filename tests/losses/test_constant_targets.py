"""Losses whose target or weight moves with the student but is a constant: their gradients are not differences.

So `test_loss_contract` leaves them out there; their identities say what they are, here stand extremes and masks.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses

S, T = 2 * jax.random.normal(jax.random.key(0), (2, 4, 5))
WHERE = jnp.array([True, False, True, False])
LOSSES = {
    'taid': lambda s, t, **options: losses.taid(s, t, 0.4, **options),
    'adaptive_kl': losses.adaptive_kl,
    'student_space': lambda s, t, **options: losses.student_space(s, t, jnp.argmax(t, axis=-1), **options),
}
each = pytest.mark.parametrize('name', LOSSES)


def gradient(name, s, t, **options):
    return jax.jit(jax.grad(lambda s: jnp.sum(LOSSES[name](s, t, **options))))(s)


@each
def test_gradients_are_finite_at_extremes(name):
    signs = jnp.tile(jnp.array([-1e4, 1e4, -1e4, 1e4, -1e4]), (4, 1))
    for pair in [(signs, -signs), (signs, signs), (0 * signs, 0 * signs), (signs, 0 * signs), (0 * signs, signs)]:
        assert np.isfinite(gradient(name, *pair)).all()


@each
def test_masked_rows_reach_no_gradient(name):
    spoiled = [jnp.where(WHERE[:, None], z, jnp.nan) for z in (S, T)]
    got = gradient(name, *spoiled, where=WHERE)
    np.testing.assert_allclose(got[WHERE], gradient(name, S[WHERE], T[WHERE]), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got[~WHERE], 0.0)


def test_no_gradient_reaches_what_is_constant():
    """Of targets, advantages and references, in whose place a network may stand."""
    calls = [
        (losses.advantage_expectation, (S, T, S + 1), (1, 2)),
        (losses.calibrated_top_k, (S, jnp.tile(jnp.arange(3), (4, 1)), jax.nn.softmax(T)[:, :3]), (2,)),
        (losses.alm, (-jnp.abs(S), -jnp.abs(T)), (1,)),
        (losses.policy_gradient, (S, T, S - 1), (1, 2)),
        (lambda s, t: losses.taid(s, t, 0.4), (S, T), (1,)),
    ]
    for loss, arguments, constants in calls:
        found = jax.grad(lambda *a, loss=loss: jnp.sum(loss(*a)), argnums=constants)(*arguments)
        for gradient in found:
            np.testing.assert_array_equal(gradient, 0.0)
