"""Images whose pixels are known: transmittance of a ball, integrals of splats, who hides whom, distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import renderers as r
from kdjax.errors import UserError
from kdjax.renderers.compositing import front_to_back
from kdjax.renderers.fields import trilinear
from kdjax.renderers.renderer import logit
from kdjax.renderers.splats_3d import rotation
from kdjax.renderers.strokes import bezier, distance

KEY = jax.random.key(0)


def raw(size, least, most):
    """What `positive` turns into this size."""
    return logit(np.log(size / least) / np.log(most / least))


def rendered(renderer, params, camera):
    arrays = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    return np.asarray(jax.jit(renderer.render)(arrays, camera, key=KEY))


def traced(renderer, params, camera):
    arrays = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    return jax.tree.map(np.asarray, jax.jit(renderer.trace)(arrays, camera, key=KEY))


def test_pixels_seen_whole_are_the_canvas_and_a_window_is_a_part_of_it():
    canvas = np.random.default_rng(0).normal(size=(4, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(rendered(r.Pixels(4, 8, 1), {'canvas': canvas}, r.whole()), canvas, atol=1e-6)
    panorama = r.Pixels(4, 6, 1, canvas=(4, 8), edge='wrap')
    window = r.crop((0.5, 0.0), (0.75, 1.0))  # columns 3 .. 8 of 8: the last is the first
    np.testing.assert_allclose(
        rendered(panorama, {'canvas': canvas}, window), np.roll(canvas, -3, axis=1)[:, :6], atol=2e-6
    )


def test_half_way_between_pixels_is_their_mean():
    canvas = np.arange(4.0).reshape(2, 2, 1)
    middle = rendered(r.Pixels(1, 1, 1, canvas=(2, 2)), {'canvas': canvas}, r.whole())
    np.testing.assert_allclose(middle, 1.5)


def test_a_turned_camera_turns_the_image():
    """A quarter turn of the view from x towards y: its right is the canvas's down."""
    canvas = np.random.default_rng(0).normal(size=(4, 4, 1))
    turned = rendered(r.Pixels(4, 4, 1), {'canvas': canvas}, r.crop(angle=np.pi / 2))
    np.testing.assert_allclose(turned, np.rot90(canvas, 1), atol=1e-5)


def test_a_flat_splat_has_its_integral():
    """2 pi s1 s2 opacity, whatever its angle; the sum over pixels of a smooth function is exact to 1e-5."""
    renderer = r.Splats2D(48, 48, 1, count=1, background=0.0)
    sizes = np.array([[0.1, 0.2]])
    params = {
        'mean': np.array([[0.05, -0.1]]), 'angle': np.array([0.7]), 'opacity': np.array([0.4]),
        'size': np.vectorize(raw)(sizes, renderer.least, renderer.most), 'colour': np.array([[30.0]]),
    }  # fmt: skip
    integral = rendered(renderer, params, r.whole()).sum() * (2 / 48) ** 2
    np.testing.assert_allclose(integral, 2 * np.pi * 0.1 * 0.2 / (1 + np.exp(-0.4)), rtol=1e-5)


def test_a_flat_splat_is_long_along_its_angle():
    """At the first size along (cos, sin) of the angle, alpha is exp(-1/2) of that in the middle."""
    renderer = r.Splats2D(3, 3, count=1)
    params = {
        'mean': jnp.zeros((1, 2)), 'angle': jnp.array([0.6]), 'opacity': jnp.array([0.0]),
        'size': jnp.array([[raw(0.4, 0.03, 1.0), raw(0.1, 0.03, 1.0)]]),
    }  # fmt: skip
    along = 0.4 * np.array([np.cos(0.6), np.sin(0.6)], np.float32)
    found = renderer.alpha(params, jnp.asarray([along, np.zeros(2, np.float32)]))
    np.testing.assert_allclose(found[:, 0], [0.5 * np.exp(-0.5), 0.5], rtol=1e-5)


def test_an_opaque_splat_hides_those_behind_it():
    """Flat: in the order of the arrays."""
    renderer = r.Splats2D(3, 3, count=2)
    params = {
        'mean': np.zeros((2, 2)), 'size': np.zeros((2, 2)), 'angle': np.zeros(2), 'opacity': np.array([40.0, 40.0]),
        'colour': np.array([[40.0, -40, -40], [-40, 40, -40]]),
    }  # fmt: skip
    np.testing.assert_allclose(rendered(renderer, params, r.whole())[1, 1], [1, 0, 0], atol=1e-6)


@pytest.mark.parametrize(('azimuth', 'front'), [(0.0, 0), (np.pi, 1)])
def test_splats_in_space_are_sorted_by_depth(azimuth, front):
    """Two splats on the x axis, seen from either end: the nearer has 0.99 of the pixel, as in the authors' code."""
    renderer = r.Splats3D(5, 5, count=2, background=0.0)
    params = {
        'mean': np.array([[0.5, 0, 0], [-0.5, 0, 0]]), 'size': np.zeros((2, 3)), 'rotation': np.eye(4)[[0, 0]],
        'opacity': np.array([40.0, 40.0]), 'colour': 80 * np.eye(3)[:2] - 40,
    }  # fmt: skip
    seen = traced(renderer, params, r.orbit(azimuth))
    np.testing.assert_allclose(np.roll(seen.image[2, 2, :2], -front), [0.99, 0.0099], atol=1e-5)
    np.testing.assert_allclose(seen.opacity[2, 2], 0.9999, atol=1e-5)
    np.testing.assert_allclose(seen.depth[2, 2], (0.99 * 2.5 + 0.0099 * 3.5) / 0.9999, rtol=1e-4)


def test_the_covariance_of_a_splat_is_projected_by_the_jacobian():
    """Against the Jacobian of the projection by autodiff: J W Sigma W^T J^T + 0.3 I, equations 5 and 6."""
    renderer = r.Splats3D(20, 30, count=3)
    params, camera = renderer.init(KEY), r.orbit(0.7, 0.5, 3.2)

    def pixel(point):
        local = camera.to_camera(point[None])[0]
        return camera.focal(20) * local[:2] / local[2] + jnp.array([15.0, 10.0])

    @jax.jit
    def both(params):
        jacobian = jax.vmap(jax.jacobian(pixel))(params['mean'])
        wanted = jacobian @ renderer.covariance(params) @ jacobian.mT + 0.3 * jnp.eye(2)[None]
        return renderer.project(params, camera), (jax.vmap(pixel)(params['mean']), wanted)

    (centre, covariance, _), (wanted_centre, wanted) = both(params)
    np.testing.assert_allclose(centre, wanted_centre, rtol=1e-5)
    np.testing.assert_allclose(covariance, wanted, rtol=1e-4, atol=1e-3)


def test_a_small_splat_in_space_has_the_integral_of_its_projection():
    """2 pi sqrt(det Sigma') opacity in pixels."""
    renderer = r.Splats3D(40, 40, 1, count=1, background=0.0)
    params = {
        'mean': np.array([[0.1, 0.1, -0.1]]), 'size': np.array([[0.3, 0.5, 0.0]]), 'opacity': np.array([0.5]),
        'rotation': np.array([[1.0, 0.2, 0.4, -0.3]]), 'colour': np.array([[30.0]]),
    }  # fmt: skip
    camera = r.orbit(0.3, 0.2)
    arrays = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    _, covariance, _ = jax.jit(renderer.project)(arrays, camera)
    wanted = 2 * np.pi * np.sqrt(np.linalg.det(covariance[0])) / (1 + np.exp(-0.5))
    np.testing.assert_allclose(rendered(renderer, params, camera).sum(), wanted, rtol=1e-4)


def test_the_rotation_of_a_quaternion():
    """A quarter turn about z, of any length; the identity at zero; orthogonal otherwise."""
    turn = jax.jit(rotation)(jnp.array([[2.0, 0, 0, 2.0], [0, 0, 0, 0], [0.3, -1.0, 0.5, 2.0]]))
    np.testing.assert_allclose(turn[0], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-6)
    np.testing.assert_array_equal(turn[1], np.eye(3))
    np.testing.assert_allclose(turn[2] @ turn[2].T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(turn[2]), 1, rtol=1e-5)


def test_a_ball_has_its_analytic_transmittance():
    """exp(-density chord) at every pixel, to half a step at either end of the chord."""
    renderer = r.Volume(9, 9, 1, field=r.Ball(0.8), samples=400, background=0.0)
    params = {'density': np.float32(np.log(np.expm1(1.5))), 'colour': np.array([40.0])}
    camera = r.orbit(0.4, 0.3)
    seen = traced(renderer, params, camera)
    origin, direction = (np.asarray(x) for x in camera.rays(9, 9))
    direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    missed = np.linalg.norm(np.cross(direction, origin), axis=-1)
    chord = 2 * np.sqrt(np.maximum(0.8**2 - missed**2, 0))
    step = 2 * np.sqrt(3) / 400
    np.testing.assert_allclose(1 - seen.opacity, np.exp(-1.5 * chord), atol=1.5 * step)
    np.testing.assert_allclose(seen.image[..., 0], seen.opacity, atol=1e-5)
    assert np.isinf(seen.depth[0, 0]) and seen.opacity[0, 0] == 0
    inside = (1 - (1 + 1.5 * 1.6) * np.exp(-1.5 * 1.6)) / 1.5 / (1 - np.exp(-1.5 * 1.6))
    np.testing.assert_allclose(seen.depth[4, 4], 3 - 0.8 + inside, atol=step)


def test_jitter_draws_by_the_key_and_around_the_same_image():
    still = r.Volume(4, 4, field=r.Ball(), samples=24)
    moving = r.Volume(4, 4, field=r.Ball(), samples=24, jitter=True)
    params = {'density': jnp.float32(0.0), 'colour': jnp.zeros(3)}
    call = jax.jit(jax.vmap(lambda key: moving.render(params, r.orbit(0.0), key=key)))
    images = call(jax.random.split(KEY, 200))
    assert np.std(images[:, 1, 1, 0]) > 0
    np.testing.assert_allclose(images.mean(0), rendered(still, params, r.orbit(0.0)), atol=0.01)


def test_voxels_between_corners():
    """Trilinear is exact on a function that is linear in each axis."""
    axis = np.linspace(-1, 1, 5)
    x, y, z = np.meshgrid(axis, axis, axis, indexing='ij')
    lattice = jnp.asarray((1 + 2 * x - y + 3 * x * y * z)[..., None], jnp.float32)
    points = np.random.default_rng(0).uniform(-1, 1, (20, 3)).astype(np.float32)
    px, py, pz = points.T
    found = jax.jit(trilinear)(lattice, jnp.asarray(points))[:, 0]
    np.testing.assert_allclose(found, 1 + 2 * px - py + 3 * px * py * pz, atol=1e-5)


def test_a_stroke_is_half_opaque_at_half_its_width():
    """A straight stroke along y = 0.1: alpha at distance d is sigmoid((w/2 - d) / softness)."""
    renderer = r.Strokes(4, 4, count=1, softness=0.02)
    params = {
        'points': jnp.asarray([[[-0.6, 0.1], [-0.2, 0.1], [0.2, 0.1], [0.6, 0.1]]]),
        'thickness': jnp.asarray([raw(0.2, 0.03, 0.4)]), 'opacity': jnp.asarray([50.0]),
    }  # fmt: skip
    points = jnp.asarray([[0.0, 0.2], [0.3, 0.0], [0.0, 0.1], [0.7, 0.1], [0.0, 0.24]])
    wanted = 1 / (1 + np.exp(-np.array([0, 0, 0.1, 0, -0.04]) / 0.02))
    np.testing.assert_allclose(jax.jit(renderer.alpha)(params, points)[:, 0], wanted, atol=1e-4)


def test_points_of_a_bezier_curve_and_distances_to_it():
    controls = jnp.asarray([[[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]])
    corners = jax.jit(bezier, static_argnums=1)(controls, 2)
    np.testing.assert_allclose(corners[0], [[0, 0], [0.5, 0.75], [1, 0]], atol=1e-6)
    points = jnp.asarray([[0.5, 0.75], [-3.0, -4.0], [1.0, 2.0]])
    line = jnp.asarray([[[0.0, 0.0], [1.0, 0.0]]])
    np.testing.assert_allclose(jax.jit(distance)(points, line)[:, 0], [0.75, 5, 2], rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(distance(p, line))))(jnp.asarray([[0.5, 0.0], [0.5, 0.3]]))
    np.testing.assert_allclose(gradient, [[0, 0], [0, 1]], atol=1e-6)


def test_weights_of_layers_sum_to_one_with_what_is_left():
    alpha = jnp.asarray([[0.5, 0.0, 0.25], [0.2, 1.0, 0.9]])
    weights, rest = front_to_back(alpha)
    np.testing.assert_allclose(weights, [[0.5, 0, 0.125], [0.2, 0.8, 0]], atol=1e-7)
    np.testing.assert_allclose(rest, [0.375, 0], atol=1e-7)
    opaque = jax.jit(jax.grad(lambda a: jnp.sum(front_to_back(a)[0] @ jnp.asarray([1.0, 2, 3]))))(alpha)
    np.testing.assert_allclose(opaque[1], [1 - 2, 0.8 * (2 - 0.9 * 3), 0], atol=1e-6)


def test_the_axes_of_an_orbit():
    """From the x axis: right is y, down is -z; orthonormal everywhere, also above the pole."""
    np.testing.assert_allclose(r.orbit(0.0).axes(), [[0, 1, 0], [0, 0, -1], [-1, 0, 0]], atol=1e-7)
    many = r.orbit(np.linspace(0, 6, 5), np.linspace(-np.pi / 2, np.pi / 2, 5))
    axes = np.asarray(many.axes())
    np.testing.assert_allclose(axes @ axes.mT, np.broadcast_to(np.eye(3), (5, 3, 3)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(axes), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(many.position(), axis=-1), 3, rtol=1e-6)


def test_rays_go_through_what_they_project_from():
    camera = r.orbit(0.8, -0.3, 2.5)
    origin, direction = camera.rays(4, 6)
    local = camera.to_camera(origin[None, None] + 1.7 * direction)
    np.testing.assert_allclose(local[..., 2], 1.7, rtol=1e-5)
    column = camera.focal(4) * local[..., 0] / local[..., 2] + 3
    np.testing.assert_allclose(column, np.broadcast_to(np.arange(6) + 0.5, (4, 6)), atol=1e-5)


def test_a_warp_and_back():
    camera = r.crop((0.3, -0.1), (0.5, 0.8), 0.4)
    points = jnp.asarray([[0.2, 0.7], [-1.0, 1.0]])
    np.testing.assert_allclose(camera.from_canvas(camera.to_canvas(points)), points, atol=1e-6)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: r.orbit(0.0, field_of_view=0.0), 'field of view of 0.0 radians sees nothing: choose between 0 and pi'),
        (lambda: r.orbit(0.0, field_of_view=3.2), 'sees nothing'),
        (lambda: r.orbit(0.0, distance=-1.0), 'at distance -1.0 sees nothing: distances are above 0'),
        (lambda: r.orbit(np.nan), 'angles finite'),
        (lambda: r.crop(size=0.0), 'has no area: sizes are above 0'),
        (lambda: r.crop((3.0, 0.0), 0.5), r'sees nothing of the canvas \[-1, 1\]\^2: move it or make it larger'),
    ],
)
def test_cameras_that_see_nothing(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_view_of_nothing_but_background():
    renderer = r.Splats3D(3, 3, count=1)
    params = jax.jit(renderer.init)(KEY) | {'mean': np.array([[9.0, 0.0, 0.0]])}  # behind the camera
    with pytest.raises(UserError, match=r'view 2 sees nothing \(opacity at most 0\): turn it to the scene'):
        r.check_seen(traced(renderer, params, r.orbit(0.0)), 'view 2')
