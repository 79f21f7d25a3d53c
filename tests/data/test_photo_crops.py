"""Crops of photographs: where they are cut, what they are called, and what is said where photographs are missing."""

import numpy as np
import pytest
from PIL import Image

from kdjax import data
from kdjax.data import photo_crops
from kdjax.data.listing import available
from kdjax.errors import UserError

HEIGHT, WIDTH = 70, 400
NUMBERS = {file: number for number, (_, file) in enumerate(photo_crops.PHOTOS.values())}


@pytest.fixture
def nowhere(monkeypatch):
    """Neither package is installed."""
    monkeypatch.setattr(photo_crops.importlib.util, 'find_spec', lambda name: None)


@pytest.fixture
def photos(tmp_path, nowhere):
    """Pictures whose pixels say where they are: the row, half of the column, and the number of the picture."""
    row, column = np.indices((HEIGHT, WIDTH))
    for file, number in NUMBERS.items():
        pixels = np.stack([row, column // 2, np.full_like(row, number)], axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / file, format='PNG')
    return tmp_path


def test_crops_of_a_split_lie_in_its_part_of_the_photograph_they_are_named_after(photos):
    dataset = data.load('photo_crops', folder=photos)
    assert dataset.image_shape == (32, 32, 3) and dataset.class_names[3] == 'cat' and dataset.flip_ok
    for split, (low, high) in photo_crops.TENTHS.items():
        image, label = dataset[split]['image'], dataset[split]['label']
        count = photo_crops.CROPS[split]
        assert image.dtype == np.uint8 and np.bincount(label).tolist() == [count] * 10
        assert (image[..., 2] == label[:, None, None]).all()
        assert image[..., 1].min() >= WIDTH * low // 20 and image[..., 1].max() < WIDTH * high // 20
        np.testing.assert_array_equal(image[:, 1:, :, 0], image[:, :-1, :, 0] + 1)
        corners = {tuple(corner) for corner in np.column_stack([image[:, 0, 0], image[:, 0, 1, 1]]).tolist()}
        assert len(corners) == 10 * count, 'a place twice'


def test_subsets_are_nested_and_the_order_is_stratified(photos):
    whole, part = (data.load('photo_crops', folder=photos, train_examples=n)['train'] for n in (None, 50))
    np.testing.assert_array_equal(part['image'], whole['image'][:50])
    assert np.bincount(part['label']).tolist() == [5] * 10


def test_the_real_photographs_are_pinned():
    if photo_crops.find() is None:
        pytest.skip('scikit-image is not installed')
    pinned = 'af86fd048640b2a0224fb928f502528a4cdb099e836bb7eb863f6209ac484bd0'
    assert data.load('photo_crops').identity == pinned


def test_missing_spoilt_and_small_photographs_are_named(photos):
    (photos / 'retina.jpg').write_bytes(b'no picture')
    with pytest.raises(UserError, match=r'retina\.jpg is not a whole picture'):
        data.load('photo_crops', folder=photos)
    Image.new('RGB', (200, 90)).save(photos / 'retina.jpg')
    with pytest.raises(UserError, match=r'retina\.jpg is 200 x 90 pixels: too small'):
        data.load('photo_crops', folder=photos)
    (photos / 'retina.jpg').unlink()
    with pytest.raises(UserError, match=r"'photo_crops' needs ten photographs.*pip install scikit-image"):
        data.load('photo_crops', folder=photos)
    row = {row.name: row for row in available(photos)}['photo_crops']
    assert not row.here and 'scikit-image' in row.how and 'CC BY' in row.licence
