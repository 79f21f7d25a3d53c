"""Noise of an object: a linear map of its draws, so means, variances and covariances between views are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import renderers as r
from kdjax.errors import UserError
from kdjax.renderers.noise import canvas_points, cube_points

KEY = jax.random.key(0)


def matrix(pixel, size, background):
    """The map from the draws on the points (and on the background) to the pixels of a view, `[pixels, draws]`."""
    points = len(pixel)

    def view(draws):
        own, behind = draws[:points, None], draws[points:].reshape(size, size, 1)
        return r.view_noise(own, pixel, behind).reshape(-1)

    return np.asarray(jax.jit(jax.jacobian(view))(jnp.zeros(points + background)))


def shared(a, b, size):
    """|p and q| / sqrt(|p| |q|) by counting."""
    members = [[set(np.flatnonzero(np.asarray(x) == p)) for p in range(size**2)] for x in (a, b)]
    counts = np.array([[len(p & q) for q in members[1]] for p in members[0]])
    sizes = [np.array([max(len(p), 1) for p in m]) for m in members]
    return counts / np.sqrt(np.outer(*sizes))


@pytest.mark.parametrize('view', [r.whole(), r.crop((0.2, 0.1), 0.7, 0.5), r.crop((0.6, 0.0), 0.8)])
def test_a_view_of_a_canvas_is_exactly_standard_normal(view):
    """The covariance of its pixels is the identity, also where it looks beyond the canvas."""
    a = matrix(r.on_canvas(canvas_points(12, 12), view, 4, 4), 4, 16)
    np.testing.assert_allclose(a @ a.T, np.eye(16), atol=1e-6)


def test_views_of_a_canvas_share_noise_as_they_share_surface():
    points = canvas_points(16, 16)
    first, second = (r.on_canvas(points, v, 4, 4) for v in (r.whole(), r.crop((0.2, -0.1), 0.9, 0.3)))
    a, b = (matrix(pixel, 4, 16) for pixel in (first, second))
    np.testing.assert_allclose(a[:, :256] @ b[:, :256].T, shared(first, second, 4), atol=1e-6)
    assert (a @ b.T).max() > 0.5


def test_a_panorama_goes_on_from_its_other_side():
    """Windows one whole turn apart see the same noise, and columns at the seam are those of both ends."""
    points = canvas_points(4, 8)
    window = r.crop((0.5, 0.0), (0.75, 1.0))
    pixel = r.on_canvas(points, window, 4, 6, wrap=True)
    noise = jax.random.normal(KEY, (32, 2))
    seen = r.view_noise(noise, pixel, jnp.zeros((4, 6, 2)))
    np.testing.assert_array_equal(seen, np.roll(noise.reshape(4, 8, 2), -3, axis=1)[:, :6])


def test_interpolation_would_lose_variance():
    """A quarter is left where a pixel lies midway between four: why views sum instead."""
    middle = r.Pixels(1, 1, 1, canvas=(2, 2))
    seen = jax.jit(jax.jacobian(lambda canvas: middle.render({'canvas': canvas}, r.whole(), key=KEY)))
    a = seen(jnp.zeros((2, 2, 1)))
    np.testing.assert_allclose(np.sum(np.square(a)), 0.25)
    b = matrix(r.on_canvas(canvas_points(2, 2), r.whole(), 1, 1), 1, 1)
    np.testing.assert_allclose(b @ b.T, 1, rtol=1e-6)


def solid_views(*azimuths):
    """Where the points of a cube's lattice fall in views of a ball, with what it hides left out."""
    renderer = r.Volume(4, 4, field=r.Ball(0.7), samples=48)
    params = {'density': jnp.float32(60.0), 'colour': jnp.zeros(3)}
    points = cube_points(14)

    @jax.jit
    def pixel(camera):
        depth = renderer.trace(params, camera, key=KEY).depth
        return r.footprints(points, camera, 4, 4, depth=depth, tolerance=0.15)

    return points, [pixel(r.orbit(azimuth, 0.2)) for azimuth in azimuths]


def test_views_of_a_solid_are_standard_normal_and_share_what_both_see():
    points, (front, turned, back) = solid_views(0.0, 0.4, np.pi)
    a, b, c = (matrix(pixel, 4, 16) for pixel in (front, turned, back))
    for map_ in (a, b, c):
        np.testing.assert_allclose(map_ @ map_.T, np.eye(16), atol=1e-5)
    seen = len(points)
    np.testing.assert_allclose(a[:, :seen] @ b[:, :seen].T, shared(front, turned, 4), atol=1e-6)
    assert np.trace(a[:, :seen] @ b[:, :seen].T) > 10 * np.abs(a[:, :seen] @ c[:, :seen].T).max()


def test_hidden_points_are_on_the_side_away_from_the_camera():
    points, (front,) = solid_views(0.0)
    x = np.asarray(points)[np.asarray(front) >= 0][:, 0]
    assert len(x) > 20 and x.min() > 0


def test_points_behind_the_camera_fall_nowhere():
    points = jnp.asarray([[5.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(r.footprints(points, r.orbit(0.0), 3, 3), [-1, 4])


def test_noise_that_is_partly_fresh():
    noise = jax.random.normal(KEY, (20000,))
    np.testing.assert_array_equal(r.refreshed(noise, 0.0, key=KEY), noise)
    some = r.refreshed(noise, 0.3, key=jax.random.key(1))
    assert abs(np.std(some) - 1) < 5 / np.sqrt(2 * 20000)
    assert abs(np.mean(some * noise) - np.sqrt(0.7)) < 5 * np.sqrt(1.7 / 20000)
    with pytest.raises(UserError, match=r'1\.5 of the noise cannot be fresh: choose from 0 to 1'):
        r.refreshed(noise, 1.5, key=KEY)


def test_points_and_noise_differ_in_number():
    with pytest.raises(UserError, match='noise on 3 points but pixels of 2'):
        r.view_noise(jnp.zeros((3, 1)), jnp.zeros(2, int), jnp.zeros((2, 2, 1)))
