"""`fashion_mnist`: 60000 + 10000 pictures of clothes (arXiv 1708.07747), from the IDX files in a folder."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np

from kdjax.data.assemble import Arrays, from_splits
from kdjax.data.dataset import ImageDataset, Origin
from kdjax.data.splits import carve
from kdjax.errors import UserError

ORIGIN = Origin(source='IDX files in a folder', licence='MIT', size='70000 x 28x28x1')
CLASSES = (
    't-shirt',
    'trouser',
    'pullover',
    'dress',
    'coat',
    'sandal',
    'shirt',
    'sneaker',
    'bag',
    'ankle boot',
)
VALIDATION = 5000
FILES = {
    'train': ('train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz'),
    'test': ('t10k-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz'),
}
DEBIAN = Path('/usr/share/datasets/fashion-mnist')
REMEDY = (
    'put the four .gz files of github.com/zalandoresearch/fashion-mnist into a folder, named by folder= or '
    'KDJAX_DATA; on Debian and Ubuntu: `apt-get download dataset-fashion-mnist && '
    'dpkg-deb -x dataset-fashion-mnist*.deb fashion`, then '
    'KDJAX_DATA=fashion/usr/share/datasets/fashion-mnist'
)


def find(folder: Path | None = None) -> Path | None:
    """The first of these places that holds all four files: `folder`, KDJAX_DATA, Debian's own; else None."""
    roots = [folder] if folder else [Path(os.environ['KDJAX_DATA'])] if os.environ.get('KDJAX_DATA') else []
    places = [root / child for root in roots for child in ('', 'fashion_mnist', 'fashion-mnist')]
    if folder is None:
        places.append(DEBIAN)
    needed = [name for pair in FILES.values() for name in pair]
    return next((place for place in places if all((place / name).is_file() for name in needed)), None)


def load(*, train_examples: int | None = None, folder: Path | None = None) -> ImageDataset:
    """55000 train, 5000 validation (a stratified part of the published train), 10000 test; uint8 images."""
    place = find(folder)
    if place is None:
        where = folder or os.environ.get('KDJAX_DATA') or DEBIAN
        raise UserError(f"data set 'fashion_mnist' is not in {where}: {REMEDY}")
    images, labels = _read_part(place, 'train')
    if len(labels) <= VALIDATION:
        raise UserError(
            f"split 'train' of data set 'fashion_mnist' has {len(labels)} examples: some are missing"
        )
    sizes = {'train': len(labels) - VALIDATION, 'validation': VALIDATION}
    carved = {
        split: (images[chosen], labels[chosen])
        for split, chosen in carve(labels, sizes, name='fashion_mnist').items()
    }
    return from_splits(
        'fashion_mnist',
        carved | {'test': _read_part(place, 'test')},
        class_names=CLASSES,
        flip_ok=True,
        crop_padding=2,
        origin=ORIGIN,
        train_examples=train_examples,
    )


def read_idx(path: Path) -> np.ndarray:
    """A gzipped IDX file of bytes: 0, 0, 8, the number of axes, the axes as big-endian uint32, the values."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError) as error:
        raise UserError(f'{path} is not a whole gzip file ({error}): fetch it again') from None
    axes = content[3] if content[:3] == b'\0\0\x08' and len(content) > 3 else 0
    shape = (
        np.frombuffer(content, '>u4', axes, 4) if axes and len(content) >= 4 + 4 * axes else np.zeros(1, int)
    )
    values = np.frombuffer(content, np.uint8, offset=min(len(content), 4 + 4 * axes))
    if axes == 0 or len(values) != np.prod(shape, dtype=np.int64):
        raise UserError(f'{path} is not an IDX file of bytes, or it is cut short: fetch it again')
    return values.reshape(shape)


def _read_part(place: Path, part: str) -> Arrays:
    images, labels = (read_idx(place / name) for name in FILES[part])
    return images, labels
