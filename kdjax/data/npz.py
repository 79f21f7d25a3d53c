"""`npz:FOLDER`: your own images, as train.npz, validation.npz and test.npz with `image` and `label`."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from kdjax.data.assemble import Arrays, from_splits
from kdjax.data.checks import check_pair, check_variety
from kdjax.data.dataset import SPLITS, ImageDataset, Origin
from kdjax.data.splits import stratified_order
from kdjax.errors import UserError

LAYOUT = 'train.npz, validation.npz and test.npz, each with image [N, H, W, C] and label [N]'


def load(folder: Path, *, train_examples: int | None = None) -> ImageDataset:
    """uint8 (0..255) or float (0..1) images; labels 0..C-1; C is one more than the largest label of train.

    An optional array `class_names` in train.npz names the classes (and says how many there are). Flips are
    off and crops may shift by an eighth of the smaller side. Raises `UserError` for whatever cannot be
    trained on.
    """
    name = f'npz:{folder.name}'
    if not folder.is_dir():
        raise UserError(f"folder '{folder}' of data set '{name}' does not exist: it should hold {LAYOUT}")
    found = {split: _read(folder / f'{split}.npz') for split in SPLITS}
    train = found['train']
    _, labels = _checked(name, 'train', train, None)
    check_variety(labels, place=f"split 'train' of data set '{name}'")
    names = tuple(map(str, train.get('class_names', np.arange(train['label'].max() + 1))))
    splits = {split: _checked(name, split, arrays, len(names)) for split, arrays in found.items()}
    order = stratified_order(splits['train'][1])
    splits['train'] = (splits['train'][0][order], splits['train'][1][order])
    height, width = train['image'].shape[1:3]
    return from_splits(
        name,
        splits,
        class_names=names,
        flip_ok=False,
        crop_padding=min(height, width) // 8,
        origin=Origin(source='a folder of .npz', licence='yours', size=_size(splits)),
        train_examples=train_examples,
    )


def plain_arrays(path: Path, remedy: str) -> dict[str, np.ndarray]:
    """All arrays of a `.npz`, none of which may hold code. Raises UserError, with the remedy, where there is none."""
    if not path.is_file():
        raise UserError(f"'{path}' does not exist: {remedy}")
    try:
        with np.load(path, allow_pickle=False) as found:
            return dict(found)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"'{path}' cannot be read as .npz of plain arrays: {error}") from None


def _read(path: Path) -> dict[str, np.ndarray]:
    arrays = plain_arrays(path, f'the folder should hold {LAYOUT}')
    missing = {'image', 'label'} - set(arrays)
    if missing:
        raise UserError(f"'{path}' lacks {sorted(missing)}; it holds {sorted(arrays)}")
    return arrays


def _checked(name: str, split: str, arrays: dict[str, np.ndarray], classes: int | None) -> Arrays:
    return check_pair(
        arrays['image'], arrays['label'], classes, place=f"split '{split}' of data set '{name}'"
    )


def _size(splits: dict[str, Arrays]) -> str:
    count = sum(len(labels) for _, labels in splits.values())
    return f'{count} x ' + 'x'.join(map(str, splits['train'][0].shape[1:]))
