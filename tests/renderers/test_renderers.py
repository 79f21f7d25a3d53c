"""What holds for every renderer: shape, range, gradients, many at once, and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes_for_tests import RENDERERS, camera, float64, ravel_numpy

from kdjax import renderers as r
from kdjax.errors import UserError

KEY = jax.random.key(0)
QUICK = {'xla_backend_optimization_level': 0}
"""These programs are compiled for longer than they run."""
every = pytest.mark.parametrize('name', RENDERERS)


def loss(name, image):
    """Smooth, and another number for every image."""
    return jnp.sum(jnp.asarray(np.random.default_rng(0).normal(size=(6, 5, 3)), image.dtype) * image)


@functools.cache
def one(name):
    """Loss and image of one particle, and the gradient in its parameters: compiled once."""

    def call(params, view):
        image = RENDERERS[name].render(params, view, key=KEY)
        return loss(name, image), image

    return jax.jit(jax.value_and_grad(call, has_aux=True), compiler_options=QUICK)


@functools.cache
def three(name):
    """The same of three particles at once, with the sum of their losses."""

    def call(params, views):
        images = r.render_each(RENDERERS[name], params, views, key=KEY)
        return jnp.sum(jax.vmap(lambda image: loss(name, image))(images)), images

    return jax.jit(jax.value_and_grad(call, has_aux=True), compiler_options=QUICK)


@functools.cache
def drawn(name):
    return jax.jit(lambda key: r.particles(RENDERERS[name], 3, key))(KEY)


def views(name):
    return [camera(name, turn) for turn in (0.0, 0.5, 2.0)]


def particle(i, tree):
    return jax.tree.map(lambda x: np.asarray(x)[i], tree)


@every
def test_an_image_of_the_promised_shape_and_range_that_every_parameter_enters(name):
    renderer = RENDERERS[name]
    assert isinstance(renderer, r.Renderer)
    (_, images), gradient = three(name)(drawn(name), r.stacked(views(name)))
    assert images.dtype == jnp.float32
    assert r.check_images(renderer, images).shape == (3, 6, 5, 3)
    assert all(np.std(image) > 1e-3 for image in images)
    assert all(np.abs(leaf[i]).max() > 0 for leaf in jax.tree.leaves(gradient) for i in range(3))


@every
def test_gradients_are_those_of_finite_differences(name):
    """In float64, along two directions; central differences of step 1e-6: relative error below 1e-6."""
    with jax.enable_x64(True):
        view, params = float64(camera(name)), float64(particle(0, drawn(name)))
        (_, image), gradient = one(name)(params, view)
        assert image.dtype == jnp.float64
        flat, back = ravel_numpy(params)
        for seed in range(2):
            way = np.random.default_rng(seed).normal(size=flat.shape)
            up, down = (one(name)(back(flat + step * way), view)[0][0] for step in (1e-6, -1e-6))
            np.testing.assert_allclose((up - down) / 2e-6, ravel_numpy(gradient)[0] @ way, rtol=1e-6, atol=1e-7)


@every
def test_particles_at_once_are_particles_one_by_one(name):
    """Images, and gradients: no particle enters another's. Against float64: differences below 2e-5 of the largest."""
    (_, images), gradients = three(name)(drawn(name), r.stacked(views(name)))
    with jax.enable_x64(True):
        for i, view in enumerate(views(name)):
            (_, image), gradient = one(name)(float64(particle(i, drawn(name))), float64(view))
            np.testing.assert_allclose(images[i], image, atol=2e-5)
            found, wanted = (ravel_numpy(g)[0] for g in (particle(i, gradients), particle(..., gradient)))
            np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


@every
def test_extreme_parameters_have_finite_images_and_gradients(name):
    sizes = np.array([0, 1e4, -1e4], np.float32)
    params = jax.tree.map(lambda x: np.asarray(x) * sizes.reshape(3, *[1] * (x.ndim - 1)), drawn(name))
    (_, images), gradient = three(name)(params, r.stacked(views(name)))
    assert np.isfinite(images).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_views_of_one_particle():
    renderer, params = RENDERERS['pixels'], jax.tree.map(lambda x: x[0], drawn('pixels'))
    found = jax.jit(lambda c: r.render_views(renderer, params, c, key=KEY))(r.stacked(views('pixels')))
    np.testing.assert_allclose(
        found[0], three('pixels')(drawn('pixels'), r.stacked(views('pixels')))[0][1][0], atol=1e-6
    )


def test_zero_particles():
    with pytest.raises(UserError, match=r'0 particles of Pixels.*must be at least 1'):
        r.particles(RENDERERS['pixels'], 0, KEY)
    renderer = RENDERERS['pixels']
    none = {'canvas': np.zeros((0, 6, 5, 3))}
    with pytest.raises(UserError, match=r'particles of Pixels.*first axes \[\(0,\)\].*at least 1'):
        r.render_each(renderer, none, r.stacked([r.whole()]), key=KEY)
    with pytest.raises(UserError, match='no cameras to stack'):
        r.stacked([])


def test_particles_and_cameras_differ_in_number():
    renderer = RENDERERS['pixels']
    with pytest.raises(UserError, match='3 particles but 2 cameras: stack one camera for each'):
        r.render_each(renderer, drawn('pixels'), r.stacked([r.whole()] * 2), key=KEY)


def test_images_out_of_shape_and_range():
    sigmoid = RENDERERS['sigmoid pixels']
    with pytest.raises(UserError, match=r'images of shape \(5, 6, 3\), it promises \(6, 5, 3\)'):
        r.check_images(sigmoid, np.zeros((2, 5, 6, 3)))
    with pytest.raises(UserError, match=r'values in -0.5 .. 0, outside its range 0 .. 1'):
        r.check_images(sigmoid, np.linspace(-0.5, 0, 90).reshape(6, 5, 3))
    with pytest.raises(UserError, match='not finite'):
        r.check_images(sigmoid, np.full((6, 5, 3), np.nan))
    r.check_images(RENDERERS['pixels'], np.full((6, 5, 3), -7.0))


def test_a_background_of_another_number_of_channels():
    renderer = r.Splats2D(4, 4, channels=1, background=(0.1, 0.2))
    with pytest.raises(UserError, match=r'background=\(0.1, 0.2\) for 1 channels'):
        jax.eval_shape(lambda: renderer.render(renderer.init(KEY), r.whole(), key=KEY))


@pytest.mark.parametrize('wrong', [{'form': 'tanh'}, {'edge': 'mirror'}])
def test_unknown_forms_of_pixels(wrong):
    with pytest.raises(UserError, match='known:'):
        r.Pixels(4, 4, **wrong)
