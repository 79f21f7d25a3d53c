"""Sprites: what the columns say is what the images show."""

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import renderers
from kdjax.data.sprites import CLASS_NAMES, DISTANCE, FIELD_OF_VIEW, distance, rays, sprites, view_azimuth
from kdjax.errors import UserError

SMALL = {'size': 12, 'examples': 144, 'evaluation_examples': 48}


def test_every_class_is_seen_from_every_view():
    made = sprites(**SMALL)
    train = made['train']
    pairs = train['label'] * made.views + train['view']
    np.testing.assert_array_equal(np.bincount(pairs, minlength=24), np.full(24, 6))
    assert made.image_shape == (12, 12, 3) and made.classes == len(CLASS_NAMES) == 6
    assert made['train'].take(np.arange(2)).keys() >= {'image', 'label', 'view', 'azimuth', 'elevation', 'index'}
    off = np.abs(train['azimuth'] - 2 * np.pi / 4 * train['view'])
    assert off.max() <= 0.6 * np.pi / 4 + 1e-6 and off.max() > 0.4 * np.pi / 4


def test_the_same_settings_give_the_same_images_and_another_seed_others():
    made = sprites(**SMALL)
    sprites.cache_clear()
    again, other = sprites(**SMALL), sprites(**SMALL, seed=1)
    assert again is not made and again.identity == made.identity != other.identity
    np.testing.assert_array_equal(again['test']['image'], made['test']['image'])


def test_the_front_is_light_and_the_back_dark_on_a_grey_ground():
    train = sprites(**SMALL)['train']
    image = train['image'].astype(float) / 255
    assert np.abs(image[:, 0, 0] - 0.5).max() < 0.01
    shown = np.abs(image - 0.5).max(-1) > 0.03
    bright = np.array([i.max(-1)[s].mean() for i, s in zip(image, shown, strict=True)])
    assert bright[train['view'] == 0].min() > bright[train['view'] == 2].max()
    assert 0.15 < shown.mean() < 0.6


def test_its_camera_is_that_of_the_renderers():
    camera = renderers.orbit(0.7, 0.3, DISTANCE, FIELD_OF_VIEW)
    origin, direction = camera.rays(4, 4)
    own_origin, own = rays(camera.azimuth, camera.elevation, 4)
    np.testing.assert_allclose(own_origin, origin, atol=1e-6)
    unit = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    np.testing.assert_allclose(own, unit.reshape(-1, 3), atol=1e-6)


@pytest.mark.parametrize(
    ('shape', 'inside', 'surface', 'outside'),
    [
        ('box', (0.3, 0.1, 0.0), (0.6, 0.1, 0.1), ((1.6, 0.0, 0.0), 1.0)),
        ('ball', (0.3, 0.1, 0.0), (0.75, 0.0, 0.0), ((0.0, 1.2, 0.0), 0.6)),
        ('ring', (0.0, 0.55, 0.1), (0.2, 0.55, 0.0), ((0.0, 0.0, 0.0), 0.35)),
    ],
)
def test_distances_to_solids(shape, inside, surface, outside):
    points = np.asarray([inside, surface, outside[0]], np.float32)
    found = distance(shape, jnp.asarray(points), jnp.ones(3))
    assert found[0] < 0
    np.testing.assert_allclose(found[1:], [0, outside[1]], atol=1e-6)


def test_azimuths_of_views():
    np.testing.assert_allclose(
        view_azimuth(np.array([0, 1]), np.array([0.0, -1.0]), views=4, spread=0.5),
        [0, np.pi / 2 - np.pi / 8],
        rtol=1e-6,
    )


@pytest.mark.parametrize('wrong', [{'size': 3}, {'views': 0}, {'examples': 20}, {'spread': 1.5}])
def test_sizes_that_are_none(wrong):
    with pytest.raises(UserError, match='every split has an image of each of the 6 classes from each view'):
        sprites(**(SMALL | wrong))
