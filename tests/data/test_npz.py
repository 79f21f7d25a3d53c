"""A folder of .npz: what is read, and the message for everything that can be wrong with it."""

import numpy as np
import pytest

from kdjax import data
from kdjax.errors import UserError


def split(count, *, dtype=np.uint8, classes=3, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, 4, 5, 3))
    images = images.astype(np.uint8) if dtype == np.uint8 else (images / 255).astype(dtype)
    return {'image': images, 'label': np.arange(count) % classes}


def write(folder, **changed):
    splits = {'train': split(12), 'validation': split(3, seed=1), 'test': split(6, seed=2)} | changed
    for name, arrays in splits.items():
        np.savez(folder / f'{name}.npz', **arrays)
    return f'npz:{folder}'


def test_a_folder_is_read(tmp_path):
    dataset = data.load(write(tmp_path))
    assert {name: len(source) for name, source in dataset.splits.items()} == {
        'train': 12,
        'validation': 3,
        'test': 6,
    }
    assert (dataset.classes, dataset.image_shape, dataset.name) == (3, (4, 5, 3), f'npz:{tmp_path.name}')
    np.testing.assert_array_equal(dataset['test']['image'], split(6, seed=2)['image'])
    assert sorted(dataset['train']['image'][:, 0, 0, 0]) == sorted(split(12)['image'][:, 0, 0, 0])


def test_images_and_labels_stay_together_in_train(tmp_path):
    written = split(12)
    train = data.load(write(tmp_path))['train']
    pairs = {(image.tobytes(), int(label)) for image, label in zip(train['image'], train['label'], strict=True)}
    assert pairs == {(i.tobytes(), int(y)) for i, y in zip(written['image'], written['label'], strict=True)}


def test_the_identity_is_of_the_content_not_of_the_place(tmp_path):
    places = [tmp_path / name for name in 'ab']
    for place in places:
        place.mkdir()
    first, second = (data.load(write(place)).identity for place in places)
    assert first == second
    assert data.load(write(places[1], test=split(6, seed=3))).identity != first


def test_class_names_may_be_given_and_grey_images_may_lack_their_channel(tmp_path):
    changed = {
        name: {**split(6), 'image': split(6)['image'][..., 0]} for name in ('train', 'validation', 'test')
    }
    changed['train']['class_names'] = np.array(['cat', 'dog', 'eel', 'fox'])
    dataset = data.load(write(tmp_path, **changed))
    assert dataset.class_names == ('cat', 'dog', 'eel', 'fox') and dataset.image_shape == (4, 5, 1)


def test_float_images_become_float32(tmp_path):
    floats = {name: split(6, dtype=np.float64) for name in ('train', 'validation', 'test')}
    assert data.load(write(tmp_path, **floats))['train']['image'].dtype == np.float32


def spoilt(name, value, *, count=12, dtype=np.uint8):
    arrays = split(count, dtype=dtype)
    if callable(value):
        value = value(arrays[name])
    return {**arrays, name: value}


def set_nan(images):
    images[5, 1, 1, 0] = np.nan
    return images


FLOATS = {'dtype': np.float32}
SPOILT = {
    'empty': ('test', split(0), r"split 'test' of data set 'npz:.*' is empty: it needs at least one example"),
    'single class': ('train', split(12, classes=1), r"split 'train' .* holds a single class \(0\)"),
    'NaN': (
        'train',
        spoilt('image', set_nan, **FLOATS),
        r"split 'train' .*: image 5 holds NaN or infinity \(1 such",
    ),
    'scale': (
        'test',
        spoilt('image', lambda x: x * 255, **FLOATS),
        r'must lie in 0\.\.1, these span 0 to 255',
    ),
    'out of range': (
        'validation',
        split(8, classes=4),
        r"'validation' .*: label 3 of example 3 is not in 0\.\.2",
    ),
    'negative': ('train', spoilt('label', lambda y: y - 1), r'label -1 of example 0 is not in 0, 1, 2'),
    'fractional': (
        'train',
        spoilt('label', lambda y: y / 2),
        r'labels must be integers \[N\], not float64\[12\]',
    ),
    'lengths': ('test', spoilt('label', lambda y: y[:5]), r"split 'test' .*: 12 images but 5 labels"),
    'shape': (
        'test',
        spoilt('image', lambda x: x[:, 0, 0]),
        r'images must be \[N, H, W, C\] or .*, not \[12, 3\]',
    ),
    'dtype': (
        'test',
        spoilt('image', lambda x: x.astype(int)),
        r'images must be uint8 .* or float .*, not int64',
    ),
    'other shape': ('test', spoilt('image', lambda x: x[:, :3]), r'different shapes: .*\(3, 5, 3\)'),
    'no labels': (
        'test',
        {'image': split(6)['image']},
        r"test\.npz' lacks \['label'\]; it holds \['image'\]",
    ),
    'objects': (
        'test',
        spoilt('label', np.array([{}], object)),
        r"test\.npz' cannot be read as \.npz of plain arrays",
    ),
}


@pytest.mark.parametrize('what', SPOILT)
def test_bad_data_are_named(tmp_path, what):
    name, arrays, message = SPOILT[what]
    with pytest.raises(UserError, match=message):
        data.load(write(tmp_path, **{name: arrays}))


def test_a_missing_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(UserError, match=r"folder '.*nowhere' of data set 'npz:nowhere' does not exist"):
        data.load(f'npz:{tmp_path}/nowhere')
    spec = write(tmp_path)
    (tmp_path / 'validation.npz').unlink()
    with pytest.raises(
        UserError, match=r"validation\.npz' does not exist: the folder should hold train\.npz"
    ):
        data.load(spec)


def test_a_file_that_is_no_archive_is_named(tmp_path):
    spec = write(tmp_path)
    (tmp_path / 'test.npz').write_bytes(b'nothing')
    with pytest.raises(UserError, match=r"test\.npz' cannot be read"):
        data.load(spec)
