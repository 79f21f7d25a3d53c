"""Readouts in closed form, statistics of norms, crops that shrink, and one draw for two sides."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.algorithms.condensation import recovery, regression, siamese
from kdjax.errors import UserError
from kdjax.models.named import named

KEY = jax.random.key(0)


def test_kernel_ridge_is_ridge_regression():
    """(Phi^T Phi + lambda I)^-1 Phi^T y in float64, with lambda relative to the trace; float32 agrees to 1e-3."""
    rng = np.random.default_rng(0)
    support, targets, query = rng.normal(size=(6, 9)), rng.normal(size=(6, 2)), rng.normal(size=(4, 9))
    damping = 1e-2 * np.trace(support @ support.T)
    readout = np.linalg.solve(support.T @ support + damping * np.eye(9), support.T @ targets)
    with jax.enable_x64(True):
        got = np.asarray(regression.kernel_ridge(*map(jnp.asarray, (support, targets, query)), ridge=1e-2))
    np.testing.assert_allclose(got, query @ readout, rtol=1e-9)
    single = (jnp.asarray(a, jnp.float32) for a in (support, targets, query))
    np.testing.assert_allclose(regression.kernel_ridge(*single, ridge=1e-2), query @ readout, rtol=1e-3, atol=1e-4)


def test_enough_support_says_a_linear_function_exactly():
    """With the column of ones also an affine one; without it features have no unit."""
    rng = np.random.default_rng(1)
    support, query, w = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((20, 3), (5, 3), (3, 2)))
    error = regression.regression_error(support, support @ w + 2.0, query, query @ w + 2.0)
    np.testing.assert_allclose(error, 0.0, atol=1e-3)
    said = [regression.kernel_ridge(s * support, support @ w, s * query, ridge=1e-3) for s in (1.0, 128.0)]
    np.testing.assert_allclose(*said, rtol=1e-3, atol=1e-4)


def test_regression_moves_the_set_and_nothing_else():
    rng = np.random.default_rng(2)
    args = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((6, 3), (6, 2), (5, 3), (5, 2))]
    gradients = jax.grad(lambda *a: jnp.sum(regression.regression_error(*a)), (0, 1, 2, 3))(*args)
    assert [bool(np.abs(g).max() > 0) for g in gradients] == [True, True, False, False]


def test_what_cannot_be_regressed():
    with pytest.raises(UserError, match=r'support features \(2, 3\), targets \(4, 1\), query features \(5, 3\)'):
        regression.kernel_ridge(jnp.zeros((2, 3)), jnp.zeros((4, 1)), jnp.zeros((5, 3)))


def test_statistics_distance_in_closed_form():
    """Lengths, not squares; the first layer counts tenfold; finite gradients where nothing is missing."""
    rng = np.random.default_rng(3)
    maps = [jnp.asarray(rng.normal(size=(6, 2, 2, 3)), jnp.float32) for _ in range(2)]
    means, variances = ([f(m, axis=(0, 1, 2)) for m in maps] for f in (jnp.mean, jnp.var))
    exact = jax.value_and_grad(lambda m: recovery.statistics_distance([m, maps[1]], means, variances))(maps[0])
    np.testing.assert_allclose(exact[0], 0.0, atol=1e-5)
    assert np.isfinite(exact[1]).all()
    moved = recovery.statistics_distance(maps, [means[0] + 3.0, means[1] + 4.0], variances)
    np.testing.assert_allclose(moved, (10 * 3 + 4) * np.sqrt(3), rtol=1e-5)


@functools.cache
def squeezed(norm='batch'):
    model = named('convnet-4-1', classes=3, image_shape=(4, 4, 1), norm=norm)
    return model, model.init(KEY, jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32))


def test_recovery_is_cross_entropy_plus_what_the_norms_remember():
    model, variables = squeezed()
    images = jax.random.normal(KEY, (3, 4, 4, 1))
    options = {'model': model, 'norms': recovery.convnet_norms(1), 'key': KEY}
    labels = jnp.arange(3)
    plain = recovery.recovery(images, labels, variables, weight=0.0, **options)
    both = recovery.recovery(images, labels, variables, weight=0.5, **options)
    entering = model.apply(variables, images, key=KEY, train=False)[0].taps['convolved1']
    apart = recovery.statistics_distance([entering], [jnp.zeros(4)], [jnp.ones(4)])
    np.testing.assert_allclose(both - plain, jnp.full(3, 0.5 * apart), rtol=1e-4)
    cropped = jax.grad(lambda x: jnp.sum(recovery.recovery(x, labels, variables, crop=0.3, flip=True, **options)))(
        images
    )
    assert np.isfinite(cropped).all() and np.abs(cropped).max() > 0


def test_recovery_needs_statistics():
    model, variables = squeezed('instance')
    with pytest.raises(UserError, match="remembers no statistics at 'norms/0': recovery needs one with norm='batch'"):
        recovery.recovery(
            jnp.zeros((3, 4, 4, 1)), jnp.arange(3), variables, model=model, norms=recovery.convnet_norms(1), key=KEY
        )


def test_curricula_run_from_the_whole_image_to_the_least_crop():
    def at(steps, **options):
        return [float(recovery.curriculum(s, steps=100, least=0.2, **options)) for s in steps]

    np.testing.assert_allclose(at((0, 50, 100)), [1.0, 0.6, 0.2], rtol=1e-5)
    np.testing.assert_allclose(at((0, 25, 50, 100), milestone=0.5, kind='linear'), [1.0, 0.6, 0.2, 0.2], rtol=1e-5)
    np.testing.assert_allclose(at((0, 99), kind='constant'), [0.2, 0.2], rtol=1e-5)
    np.testing.assert_allclose(at((0, 50, 100), kind='reversed'), [0.2, 0.6, 1.0], rtol=1e-5)
    with pytest.raises(UserError, match="unknown curriculum 'cosin'"):
        at((0,), kind='cosin')
    with pytest.raises(UserError, match=r'milestone=0 of a curriculum of crops'):
        at((0,), milestone=0)


def test_a_crop_of_everything_is_the_image_and_small_ones_are_inside():
    images = jax.random.uniform(KEY, (2, 8, 8, 1))
    plain = jnp.broadcast_to(jnp.arange(8.0)[None, :, None, None], (1, 8, 8, 1))
    crop = jax.jit(recovery.resized_crop)
    for seed in range(5):
        small = np.asarray(crop(plain, key=jax.random.key(seed), least=0.1))[0, :, :, 0]
        assert small.min() >= -1e-5 and small.max() <= 7 + 1e-5
        assert np.allclose(small, small[:, :1]) and (np.diff(small[:, 0]) >= -1e-5).all()
    whole = jax.image.scale_and_translate(
        images, images.shape, (1, 2), jnp.ones(2), jnp.zeros(2), method='linear', antialias=False
    )
    np.testing.assert_allclose(whole, images, atol=1e-6)


@pytest.mark.parametrize('name', siamese.TRANSFORMS)
def test_every_transform_moves_images_alike_and_lets_gradients_through(name):
    images = jax.random.normal(KEY, (2, 3, 8, 8, 2))
    run = jax.jit(functools.partial(siamese.siamese, strategy=(name,)))
    moved = run(images, key=KEY)
    assert moved.shape == images.shape and moved.dtype == jnp.float32
    np.testing.assert_allclose(run(images[:, ::-1], key=KEY)[:, ::-1], moved, atol=1e-5)
    others = [run(images, key=jax.random.key(s)) for s in range(1, 5)]
    assert any(not np.allclose(moved, o) for o in others)
    gradient = jax.grad(lambda x: jnp.sum(siamese.siamese(x, key=KEY, strategy=(name,)) ** 2))(images)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_the_identity_of_scale_and_rotation_is_the_image():
    images = jax.random.normal(KEY, (2, 7, 6, 1))
    np.testing.assert_allclose(siamese._resampled(images, jnp.eye(2)), images, atol=1e-4)


def test_strategies_are_of_known_transforms():
    with pytest.raises(UserError, match="unknown transform 'colour'; did you mean 'color'"):
        siamese.siamese(jnp.zeros((1, 4, 4, 1)), key=KEY, strategy=('colour',))
    with pytest.raises(UserError, match='an augmentation strategy of nothing'):
        siamese.siamese(jnp.zeros((1, 4, 4, 1)), key=KEY, strategy=())
