"""Examples may have several axes, [batch, tokens]: the same rows, whatever their arrangement."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses

S, T = jax.random.normal(jax.random.key(0), (2, 2, 3, 5))
LABELS = jnp.array([[0, 4, 2], [3, 1, 1]])
WHERE = jnp.array([[True, True, False], [False, True, True]])


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        ('kl_forward', (S, T)),
        ('cross_entropy', (S, LABELS)),
        ('cross_entropy', (S, jax.nn.softmax(T))),
        ('dkd', (S, T, LABELS)),
        ('plackett_luce', (S, T, LABELS)),
        ('dist', (S, T)),
    ],
)
def test_tokens_are_examples(name, arguments):
    loss = getattr(losses, name)
    flat = [a.reshape(6, *a.shape[2:]) for a in arguments]
    tokens = loss(*arguments, where=WHERE)
    np.testing.assert_allclose(tokens.reshape(6), loss(*flat, where=WHERE.reshape(6)), rtol=1e-5)
    np.testing.assert_array_equal(tokens[~WHERE], 0.0)
