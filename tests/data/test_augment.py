"""Augmentation: pure functions of the key, of known effect."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data.augment import augment, mixup, prepare, random_crop, random_flip, shift

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).integers(1, 256, (64, 6, 5, 2), np.uint8))


def test_shift_moves_down_and_right_and_fills_with_zeros():
    image = jnp.arange(1, 10, dtype=jnp.uint8).reshape(1, 3, 3, 1)
    moved = shift(jnp.tile(image, (3, 1, 1, 1)), jnp.array([[0, 0], [1, 0], [-1, 2]]), reach=2)
    expected = [
        [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        [[0, 0, 0], [1, 2, 3], [4, 5, 6]],
        [[0, 0, 4], [0, 0, 7], [0, 0, 0]],
    ]
    assert moved[..., 0].tolist() == expected


def test_a_crop_is_a_window_of_the_padded_image_and_all_windows_occur():
    found = np.asarray(random_crop(IMAGES, key=KEY, padding=1))
    padded = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = [(down, right) for down in range(3) for right in range(3)]
    chosen = [
        next(w for w in windows if (padded[i, w[0] : w[0] + 6, w[1] : w[1] + 5] == found[i]).all())
        for i in range(64)
    ]
    assert set(chosen) == set(windows)


def test_a_crop_without_padding_changes_nothing():
    np.testing.assert_array_equal(random_crop(IMAGES, key=KEY, padding=0), IMAGES)


def test_a_flip_mirrors_about_half_of_the_images():
    found = np.asarray(random_flip(IMAGES, key=KEY))
    same = (found == np.asarray(IMAGES)).all(axis=(1, 2, 3))
    mirrored = (found == np.asarray(IMAGES)[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all() and 16 < mirrored.sum() < 48


@pytest.mark.parametrize('flip', [False, True])
def test_augment_is_a_function_of_the_key_alone_and_keeps_shape_and_dtype(flip):
    compiled = jax.jit(lambda images, key: augment(images, key=key, flip=flip, padding=2))
    first, again, other = (compiled(IMAGES, key) for key in (KEY, KEY, jax.random.key(1)))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, augment(IMAGES, key=KEY, flip=flip, padding=2))
    assert (first != other).any() and first.shape == IMAGES.shape and first.dtype == jnp.uint8


@pytest.mark.parametrize('dtype', [jnp.uint8, jnp.float32])
def test_prepare_normalises_with_the_statistics_of_the_data(dtype):
    images = IMAGES if dtype == jnp.uint8 else IMAGES.astype(jnp.float32) / 255
    pixels = np.asarray(IMAGES) / 255
    mean, std = pixels.mean(axis=(0, 1, 2)), pixels.std(axis=(0, 1, 2))
    found = prepare(images, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, (pixels - mean) / std, rtol=1e-4, atol=1e-5)


def test_mixup_mixes_images_and_labels_with_one_weight():
    images = jax.nn.one_hot(jnp.arange(8), 8)[:, :, None, None]
    mixed, soft = mixup(images, jnp.arange(8), key=KEY, classes=8)
    np.testing.assert_allclose(mixed[:, :, 0, 0], soft, rtol=1e-6)
    np.testing.assert_allclose(soft.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(soft.sum(axis=0), 1, rtol=1e-6)
    weights = np.unique(np.asarray(soft)[np.asarray(soft) > 0].round(5))
    assert len(weights) <= 3


def test_mixup_takes_soft_labels():
    soft = jnp.full((4, 3), 1 / 3)
    _, mixed = mixup(jnp.zeros((4, 2, 2, 1)), soft, key=KEY, classes=3, alpha=0.2)
    np.testing.assert_allclose(mixed, soft, rtol=1e-6)


def test_mixup_names_an_impossible_alpha():
    with pytest.raises(ValueError, match=r'alpha=0\.0 must be positive'):
        mixup(jnp.zeros((4, 2, 2, 1)), jnp.zeros(4, jnp.int32), key=KEY, classes=3, alpha=0.0)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from kdjax.data.augment import augment, mixup, prepare
images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 6, 6, 1), np.uint8))
mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))

@jax.jit
def batch(images, key):
    images = prepare(augment(images, key=key, flip=True, padding=2), mean=(0.5,), std=(0.5,))
    return mixup(images, jnp.arange(8), key=key, classes=8)

spread = jax.device_put(images, NamedSharding(mesh, PartitionSpec('data')))
for one, many in zip(batch(images, jax.random.key(0)), batch(spread, jax.random.key(0))):
    np.testing.assert_allclose(one, many, rtol=1e-6, atol=1e-6)
print(len(spread.sharding.device_set))
"""


def test_the_batch_is_the_same_on_one_device_and_on_four():
    environment = os.environ | {
        'XLA_FLAGS': '--xla_force_host_platform_device_count=4',
        'JAX_PLATFORMS': 'cpu',
    }
    found = subprocess.run([sys.executable, '-c', SHARDED], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == '4'
