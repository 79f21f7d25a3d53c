"""A loss of logits in chunks is the loss of all logits: values, gradients, masks, and the memory it saves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.chunked import chunked

KEYS = jax.random.split(jax.random.key(0), 4)
HIDDEN, HEAD = jax.random.normal(KEYS[0], (2, 7, 6)), jax.random.normal(KEYS[1], (11, 6))
IDS = jax.random.randint(KEYS[2], (2, 7, 3), -1, 11)
PROBS = 0.2 * jax.random.uniform(KEYS[3], (2, 7, 3))
ENTROPY = jnp.ones((2, 7))
WHERE = jnp.arange(14).reshape(2, 7) % 5 > 0

CASES = {
    'sparse_kl': ((IDS, PROBS, ENTROPY), {'temperature': 2.0, 't_squared': True}),
    'tail_bucket_kl': ((IDS, PROBS), {}),
    'cross_entropy': ((jnp.maximum(IDS[..., 0], 0),), {}),
}


def both(loss, rows, options, **how):
    """Values and gradients at once and in chunks; the tokens' weights differ."""
    weights = jnp.arange(14.0).reshape(2, 7)

    def at_once(hidden, head):
        values = loss(jnp.einsum('...d,vd->...v', hidden, head), *rows, where=WHERE, **options)
        return jnp.sum(weights * values), values

    def in_chunks(hidden, head):
        values = chunked(loss, hidden, head, *rows, where=WHERE, **options, **how)
        return jnp.sum(weights * values), values

    for f in (at_once, in_chunks):
        yield jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))(HIDDEN, HEAD)


@pytest.mark.parametrize('chunk', [1, 4, None])
@pytest.mark.parametrize('name', CASES)
def test_chunks_are_the_whole(name, chunk):
    rows, options = CASES[name]
    ((_, wanted), wanted_slopes), ((_, got), slopes) = both(getattr(losses, name), rows, options, chunk=chunk)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(got)[~np.asarray(WHERE)], 0.0)
    for slope, wanted_slope in zip(slopes, wanted_slopes, strict=True):
        np.testing.assert_allclose(slope, wanted_slope, rtol=1e-4, atol=1e-5)


def test_logits_are_float32_and_gradients_have_the_type_of_the_weights():
    hidden, head = HIDDEN.astype(jnp.bfloat16), HEAD.astype(jnp.bfloat16)
    loss = functools.partial(chunked, losses.truncated_kl, chunk=4)
    values, back = jax.vjp(lambda h, w: loss(h, w, IDS, PROBS), hidden, head)
    assert values.dtype == jnp.float32
    assert {slope.dtype for slope in back(jnp.ones_like(values))} == {jnp.dtype(jnp.bfloat16)}
    exact = loss(hidden.astype(jnp.float32), head.astype(jnp.float32), IDS, PROBS)
    np.testing.assert_allclose(values, exact, rtol=1e-5, atol=1e-5)


def test_no_array_holds_the_logits_of_all_tokens():
    hidden, head, ids = jnp.zeros((512, 8)), jnp.zeros((1000, 8)), jnp.zeros((512, 2), jnp.int32)

    def peak(loss):
        def total(hidden, head):
            return jnp.sum(loss(hidden, head, ids, jnp.ones((512, 2)) / 2))

        compiled = jax.jit(jax.grad(total, argnums=(0, 1))).lower(hidden, head).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    dense = peak(lambda hidden, head, *rows: losses.sparse_cross_entropy(hidden @ head.T, *rows))
    few = peak(functools.partial(chunked, losses.sparse_cross_entropy, chunk=32))
    assert few < dense / 4


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r'hidden states \(2, 7, 6\), head \(11, 5\), rows \[\(2, 7, 3\)\]: a head is'):
        chunked(losses.truncated_kl, HIDDEN, jnp.ones((11, 5)), IDS)
    with pytest.raises(ValueError, match='every row begins with the axes of the tokens'):
        chunked(losses.truncated_kl, HIDDEN, HEAD, IDS[:1], PROBS)
