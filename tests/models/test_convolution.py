"""Convolutions in one form: the numbers of JAX's own, to any order, and nothing else in a compiled loop."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.models.convolution import conv_general_dilated

NHWC = ('NHWC', 'HWIO', 'NHWC')
GEOMETRIES = {
    'padded 3x3': ((5, 6), (3, 3), (1, 1), ((1, 1), (1, 1))),
    'stride 2': ((8, 7), (3, 3), (2, 2), ((1, 1), (1, 1))),
    'stride 2, unread border': ((8, 8), (1, 1), (2, 2), ((0, 0), (0, 0))),
    'patches': ((8, 8), (4, 4), (4, 4), 'VALID'),
    'same, uneven': ((7, 5), (4, 2), (1, 3), 'SAME'),
    'whole image': ((4, 4), (4, 4), (1, 1), 'VALID'),
    'wide padding': ((4, 4), (3, 3), (1, 1), ((2, 2), (3, 0))),
}


def drawn(name: str, dtype=jnp.float32):
    image, kernel, *_ = GEOMETRIES[name]
    x = jax.random.normal(jax.random.key(0), (2, *image, 3), dtype)
    return x, jax.random.normal(jax.random.key(1), (*kernel, 3, 4), dtype)


def ours_and_jax(name: str):
    *_, strides, padding = GEOMETRIES[name]

    def calling(function):
        return lambda x, w: function(x, w, strides, padding, dimension_numbers=NHWC)

    return calling(conv_general_dilated), calling(jax.lax.conv_general_dilated)


def same(a, b, tolerance=1e-5):
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=tolerance, atol=1e-4), a, b)


@pytest.mark.parametrize('name', GEOMETRIES)
class TestAgainstJax:
    def test_value_and_gradients(self, name):
        arguments = drawn(name)
        found, expected = (
            jax.jit(jax.value_and_grad(lambda x, w, f=f: jnp.sum(jnp.sin(f(x, w))), (0, 1)))(*arguments)
            for f in ours_and_jax(name)
        )
        same(found, expected)

    def test_forward_mode(self, name):
        x, w = drawn(name)
        tangents = jnp.cos(x), jnp.cos(w)
        same(*(jax.jvp(f, (x, w), tangents) for f in ours_and_jax(name)))

    def test_second_derivatives_both_ways(self, name):
        x, w = drawn(name)

        def chained(f):
            def loss(w):
                return jnp.sum(jnp.sin(f(jnp.sin(x) * jnp.sum(w), w)))

            product = jax.jvp(jax.grad(loss), (w,), (jnp.cos(w),))[1]
            return product, jax.grad(lambda w: jnp.sum(jax.grad(loss)(w) ** 2))(w)

        same(*(jax.jit(lambda f=f: chained(f))() for f in ours_and_jax(name)), tolerance=1e-3)

    @pytest.mark.parametrize('axes', [(0, None), (None, 0), (0, 0), (2, 3)])
    def test_vmap_of_value_and_gradient(self, name, axes):
        x, w = drawn(name)
        many = [
            a if axis is None else jnp.stack([a, a + 1, 2 * a], axis) for a, axis in zip((x, w), axes, strict=True)
        ]

        def batched(f):
            each = jax.value_and_grad(lambda x, w: jnp.sum(jnp.sin(f(x, w))), (0, 1))
            return jax.jit(jax.vmap(each, axes))(*many)

        same(*map(batched, ours_and_jax(name)))


def test_bfloat16_stays_bfloat16():
    ours, theirs = ours_and_jax('padded 3x3')
    x, w = drawn('padded 3x3', jnp.bfloat16)
    assert ours(x, w).dtype == jnp.bfloat16
    np.testing.assert_array_equal(*(np.asarray(f(x, w), np.float32) for f in (ours, theirs)))


@pytest.mark.parametrize(
    'options',
    [{'rhs_dilation': (2, 2)}, {'lhs_dilation': (2, 1)}, {'precision': 'highest'}],
    ids=lambda o: next(iter(o)),
)
def test_everything_else_is_jax(options):
    x, w = drawn('padded 3x3')
    arguments = x, w, (1, 1), ((1, 1), (1, 1))
    found, expected = (
        f(*arguments, dimension_numbers=NHWC, **options) for f in (conv_general_dilated, jax.lax.conv_general_dilated)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('name', [n for n in GEOMETRIES if n != 'wide padding'])
def test_a_group_for_each_channel(name):
    x, w = drawn(name)
    w = w[..., :1, :3]
    *_, strides, padding = GEOMETRIES[name]

    def valued(f):
        def loss(x, w):
            return jnp.sum(jnp.sin(f(x, w, strides, padding, dimension_numbers=NHWC, feature_group_count=3)))

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(x, w)

    same(valued(conv_general_dilated), valued(jax.lax.conv_general_dilated))


def test_groups_of_several_channels_are_jax():
    x, w = jnp.ones((2, 5, 5, 4)), jax.random.normal(jax.random.key(0), (3, 3, 2, 6))
    options = {'dimension_numbers': NHWC, 'feature_group_count': 2}
    functions = conv_general_dilated, jax.lax.conv_general_dilated
    np.testing.assert_array_equal(*(f(x, w, (1, 1), 'SAME', **options) for f in functions))


def test_one_dimension():
    x, w = jnp.ones((2, 9, 3)) * jnp.arange(9.0)[None, :, None], jnp.ones((3, 3, 4))
    dn = ('NHC', 'HIO', 'NHC')
    same(*(f(x, w, (2,), 'SAME', dimension_numbers=dn) for f in (conv_general_dilated, jax.lax.conv_general_dilated)))


@pytest.mark.parametrize('seeds', [1, 3])
def test_a_compiled_loop_holds_convolutions_in_the_fast_form_alone(seeds):
    """Training inside a loop, and of several networks at once: what XLA gets is never another form, never grouped."""
    x, w = drawn('stride 2')
    ours, _ = ours_and_jax('stride 2')

    def step(w):
        return w - 0.1 * jax.grad(lambda w: jnp.sum(ours(jnp.tanh(x * jnp.sum(w)), w) ** 2))(w)

    train = jax.vmap(lambda w: jax.lax.fori_loop(0, 3, lambda _, w: step(w), w))
    text = jax.jit(train).lower(jnp.stack([w] * seeds)).as_text(dialect='hlo')
    forms = re.findall(r'dim_labels=(\S+?)[,\s]', text)
    assert len(forms) >= 3
    assert set(forms) == {'b01f_01io->b01f'}
    assert 'feature_group_count' not in text and 'batch_group_count' not in text
