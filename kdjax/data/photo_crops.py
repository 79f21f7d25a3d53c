"""`photo_crops`: crops of 32 x 32 pixels of ten colour photographs that ship inside packages. It is not CIFAR.

The class of a crop is the photograph that it was cut out of. Splits are disjoint in space: training crops lie in the
left six tenths of a photograph, validation crops in the seventh, test crops in the last three; within a split they may
overlap. So what is learned has to hold in another part of the scene, and classes differ by texture and colour.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from kdjax.data.assemble import Arrays, from_splits
from kdjax.data.dataset import ImageDataset, Origin
from kdjax.data.splits import stratified_order
from kdjax.errors import UserError

ORIGIN = Origin(
    source='photographs inside scikit-learn and scikit-image',
    licence='CC BY 2.0 (china, flower), Middlebury 2014 (motorcycle), CC0 or public domain (the others)',
    size='4500 x 32x32x3',
)
INSIDE = {'sklearn': Path('datasets', 'images'), 'skimage': Path('data')}
PHOTOS = {
    'china': ('sklearn', 'china.jpg'),
    'flower': ('sklearn', 'flower.jpg'),
    'astronaut': ('skimage', 'astronaut.png'),
    'cat': ('skimage', 'chelsea.png'),
    'coffee': ('skimage', 'coffee.png'),
    'galaxies': ('skimage', 'hubble_deep_field.jpg'),
    'tissue': ('skimage', 'ihc.png'),
    'motorcycle': ('skimage', 'motorcycle_left.png'),
    'retina': ('skimage', 'retina.jpg'),
    'rocket': ('skimage', 'rocket.jpg'),
}
"""Class -> package and file."""

SIDE, SEED = 32, 20240229
CROPS = {'train': 300, 'validation': 50, 'test': 100}
"""Of each photograph."""
TENTHS = {'train': (0, 6), 'validation': (6, 7), 'test': (7, 10)}
"""Of its width."""
REMEDY = 'pip install scikit-image (or pass folder= with the ten files in it)'


def find(folder: Path | None = None) -> dict[str, Path] | None:
    """The file of every photograph, in `folder` or inside the packages (which are not imported); None if one lacks."""
    found = {}
    for name, (package, file) in PHOTOS.items():
        places = [folder / file] if folder else []
        spec = importlib.util.find_spec(package)
        places += [Path(root) / INSIDE[package] / file for root in (spec and spec.submodule_search_locations) or ()]
        found[name] = next((place for place in places if place.is_file()), None)
    here = {name: place for name, place in found.items() if place}
    return here if len(here) == len(PHOTOS) else None


def load(*, train_examples: int | None = None, folder: Path | None = None) -> ImageDataset:
    """3000 train, 500 validation, 1000 test; uint8 images. Raises `UserError` where a photograph is not here.

    The identity is that of the pixels: a JPEG decoder that rounds differently makes another data set.
    """
    files = find(folder)
    if files is None:
        raise UserError(f"data set 'photo_crops' needs ten photographs, of which some are not here: {REMEDY}")
    photos = [_opened(file) for file in files.values()]
    return from_splits(
        'photo_crops',
        {split: _cut(photos, split) for split in CROPS},
        class_names=tuple(PHOTOS),
        flip_ok=True,
        crop_padding=4,
        origin=ORIGIN,
        train_examples=train_examples,
    )


def _opened(file: Path) -> np.ndarray:
    """Pixels `[height, width, 3]`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert('RGB'))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f'{file} is not a whole picture ({error}): install its package again') from None
    if pixels.shape[0] < 2 * SIDE or pixels.shape[1] < 11 * SIDE:
        raise UserError(f'{file} is {pixels.shape[1]} x {pixels.shape[0]} pixels: too small to be cut up')
    return pixels


def _cut(photos: list[np.ndarray], split: str) -> Arrays:
    """The crops of a split at places drawn by Philox's raw stream, in stratified order."""
    rows = [_crops(photo, split, SEED + number) for number, photo in enumerate(photos)]
    label = np.repeat(np.arange(len(photos)), CROPS[split])
    order = stratified_order(label)
    return np.concatenate(rows)[order], label[order]


def _crops(photo: np.ndarray, split: str, seed: int) -> np.ndarray:
    """`[crops, SIDE, SIDE, 3]` at different places."""
    first, last = (photo.shape[1] * tenth // 10 for tenth in TENTHS[split])
    windows = np.lib.stride_tricks.sliding_window_view(photo[:, first:last], (SIDE, SIDE), axis=(0, 1))
    height, width = windows.shape[:2]
    draws = np.random.Philox(key=seed).random_raw(4 * CROPS[split]) % (height * width)
    places = np.array(list(dict.fromkeys(draws.tolist()))[: CROPS[split]])
    return np.moveaxis(windows[places // width, places % width], 1, -1)
