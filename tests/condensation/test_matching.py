"""What a set is matched to: closed forms, published arrangements, and gradients that reach the images alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.algorithms.condensation import matching
from kdjax.errors import UserError
from kdjax.models.model import Outputs, from_functions
from kdjax.models.named import named

KEY = jax.random.key(0)
IMAGE = (4, 4, 1)
CLASSES = 3


def drawn(examples, seed=0, image=IMAGE):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(examples, CLASSES, *image)), jnp.float32)


def one_hot(examples):
    return jnp.broadcast_to(jnp.eye(CLASSES)[None], (examples, CLASSES, CLASSES))


@functools.cache
def convnet():
    model = named('convnet-4-2', classes=CLASSES, image_shape=IMAGE, norm='instance')
    return model, model.init(KEY, jax.ShapeDtypeStruct((1, *IMAGE), jnp.float32))


@pytest.fixture(autouse=True, scope='module')
def _made():
    convnet()


def linear():
    """Logits W x; the feature is W x too."""

    def init(key, example):
        return {'w': jax.random.normal(key, (int(np.prod(example.shape[1:])), CLASSES))}

    def apply(params, x):
        flat = x.reshape(len(x), -1) @ params['w']
        return Outputs(flat, {'pooled': flat, 'map': x})

    model = from_functions(init, apply, name='linear')
    return model, model.init(KEY, jax.ShapeDtypeStruct((1, *IMAGE), jnp.float32))


OBJECTIVES = {
    'mean': matching.mean_embedding,
    'attention': functools.partial(matching.attention_matching, maps=('block1',)),
    'characteristic': matching.characteristic_matching,
}


def value(name, images, real, **options):
    model, variables = convnet()
    extra = (jax.random.normal(jax.random.key(5), (8, 4)),) if name == 'characteristic' else ()
    return OBJECTIVES[name](images, real, variables, *extra, model=model, key=KEY, **options)


@pytest.mark.parametrize('name', OBJECTIVES)
def test_a_set_that_is_the_data_is_matched(name):
    real = drawn(4)

    @jax.jit
    def both(images):
        return value(name, images, real), jax.grad(lambda x: jnp.sum(value(name, x, real)))(images)

    same, _ = both(real)
    assert same.shape == (CLASSES,)
    np.testing.assert_allclose(same, 0.0, atol=1e-6)
    other, gradient = both(drawn(4, seed=1))
    assert (np.asarray(other) > 1e-4).all()
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    np.testing.assert_allclose(both(real[::-1])[0], 0.0, atol=1e-6)


def test_each_class_is_matched_to_its_own():
    """The value of a class changes with that class's images alone."""
    real, images = drawn(3), drawn(2, seed=1)
    changed = images.at[:, 1].add(1.0)
    before, after = (jax.jit(functools.partial(value, 'mean'))(x, real) for x in (images, changed))
    np.testing.assert_allclose(before[jnp.array([0, 2])], after[jnp.array([0, 2])], rtol=1e-5)
    assert abs(float(before[1] - after[1])) > 1e-4


def test_gradient_matching_of_a_linear_network_in_closed_form():
    """d CE / dW = x (p - y)^T, averaged: the cosines of its rows, one for each output, summed."""
    model, variables = linear()
    images, real = drawn(2, seed=1), drawn(4)
    got = jax.jit(
        lambda x, r: matching.gradient_matching(x, one_hot(2), r, variables, model=model, key=KEY)
    )(images, real)  # fmt: skip
    w = np.asarray(variables['params']['w'], np.float64)

    def slope(x, c):
        flat = np.asarray(x, np.float64)[:, c].reshape(len(x), -1)
        z = flat @ w
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        return flat.T @ (p - np.eye(CLASSES)[c]) / len(x)

    for c in range(CLASSES):
        s, t = slope(images, c), slope(real, c)
        cosines = (s * t).sum(0) / (np.linalg.norm(s, axis=0) * np.linalg.norm(t, axis=0) + 1e-6)
        np.testing.assert_allclose(got[c], (1 - cosines).sum(), rtol=1e-4)


def test_rows_of_a_kernel_are_its_outputs():
    """A kernel `[h, w, in, out]` that is scaled by output keeps its distance; reshaped as it stands, it would not."""
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(1e3 * rng.normal(size=(2, 3, 3, 4, 5)), jnp.float32) for _ in range(2))
    plain = matching.gradient_distance({'k': a}, {'k': b})
    by_output = jnp.asarray([1.0, 2.0, 3.0, 4.0, 5.0]).reshape(1, 1, 1, 1, 5)
    np.testing.assert_allclose(matching.gradient_distance({'k': a * by_output}, {'k': b}), plain, rtol=1e-5)
    by_input = jnp.asarray([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4, 1)
    assert not np.allclose(matching.gradient_distance({'k': a * by_input}, {'k': b}), plain, rtol=1e-3)
    rows = np.moveaxis(np.asarray(a), -1, 1).reshape(2, 5, -1)
    others = np.moveaxis(np.asarray(b), -1, 1).reshape(2, 5, -1)
    cosine = (rows * others).sum(-1) / (np.linalg.norm(rows, axis=-1) * np.linalg.norm(others, axis=-1))
    np.testing.assert_allclose(plain, (1 - cosine).sum(-1), rtol=1e-5)


def test_vectors_are_not_matched():
    with pytest.raises(UserError, match='gradients of no kernel can be matched'):
        matching.gradient_distance({'bias': jnp.ones((3, 4))}, {'bias': jnp.ones((3, 4))})


def test_mean_embedding_of_a_linear_network_is_the_distance_of_class_means():
    model, variables = linear()
    images, real = drawn(2, seed=1), drawn(4)
    got = matching.mean_embedding(images, real, variables, model=model, key=KEY)
    gap = (images.mean(0) - real.mean(0)).reshape(CLASSES, -1) @ variables['params']['w']
    np.testing.assert_allclose(got, jnp.sum(gap**2, 1), rtol=1e-4)


def test_attention_is_normalised_before_the_mean():
    """Images scaled one by one keep their maps; with features left out the distance is 0."""
    model, variables = linear()
    real = drawn(4)
    scale = jnp.asarray([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1, 1, 1)
    options = {'model': model, 'key': KEY, 'maps': ('map',), 'embedding': 0.0}
    np.testing.assert_allclose(matching.attention_matching(scale * real, real, variables, **options), 0, atol=1e-10)
    apart = matching.attention_matching(drawn(4, seed=1), real, variables, **options)
    energies = [np.abs(np.asarray(x)).reshape(4, CLASSES, -1) ** 4 for x in (drawn(4, seed=1), real)]
    means = [(e / np.linalg.norm(e, axis=-1, keepdims=True)).mean(0) for e in energies]
    np.testing.assert_allclose(apart, ((means[0] - means[1]) ** 2).sum(-1), rtol=1e-4)


def test_characteristic_functions_tell_apart_what_means_cannot():
    """Two laws of one mean, on the circle: a mean distance of 0, another characteristic function."""
    angles = jnp.asarray([[0.0, np.pi], [np.pi / 2, -np.pi / 2]])
    points = jnp.stack([jnp.cos(angles), jnp.sin(angles)], -1)[:, :, None, :]
    np.testing.assert_allclose(jnp.mean(points, 1), 0.0, atol=1e-6)
    frequencies = jax.random.normal(KEY, (64, 2))
    sides = [matching.characteristic(p, frequencies) for p in points]
    assert float(jnp.mean(jnp.abs(sides[0][0] - sides[1][0]))) > 0.05


def test_what_is_learned_through_ascending_rises():
    """One gradient for both players: images descend, and the sampler's has the other sign, not zero."""

    def loss(x, w):
        return jnp.sum(x * matching.ascending(w))

    down, up = jax.grad(loss, (0, 1))(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0]))
    np.testing.assert_array_equal(down, [3.0, 4.0])
    np.testing.assert_array_equal(up, [-1.0, -2.0])


def test_mirrored_sets_do_not_know_left_from_right():
    real, images = drawn(4), drawn(2, seed=1)
    run = jax.jit(functools.partial(value, 'mean', mirrored=True))
    np.testing.assert_allclose(run(images, real), run(images[..., ::-1, :], real), rtol=1e-4)
    by_hand = value('mean', jnp.concatenate([images, images[..., ::-1, :]]), real)
    np.testing.assert_allclose(run(images, real), by_hand, rtol=1e-5)


def test_one_draw_moves_both_sides():
    seen = []

    def augment(images, *, key):
        seen.append(jax.random.key_data(key))
        return images

    matching.both(drawn(2), drawn(4), augment, KEY)
    np.testing.assert_array_equal(*seen)


def test_sides_that_do_not_go_together():
    with pytest.raises(UserError, match=r'synthetic images have shape \(2, 3, 4, 4, 1\), real ones \(4, 3, 8, 8, 1\)'):
        matching.both(drawn(2), drawn(4, image=(8, 8, 1)), None, KEY)
    with pytest.raises(UserError, match='frequencies of width 3 for features of width 4'):
        matching.characteristic(jnp.zeros((2, 3, 4)), jnp.zeros((5, 3)))
