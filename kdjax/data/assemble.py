"""From arrays to a `Dataset`: checks, statistics of the train split and the identity of all splits."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from kdjax.data.checks import check_pair, check_variety
from kdjax.data.dataset import SPLITS, ArraySource, ImageDataset, Origin
from kdjax.data.splits import RULE, carve, train_interval
from kdjax.errors import UserError

Arrays = tuple[np.ndarray, np.ndarray]
"""Images [N, H, W, C] and labels [N]."""


def from_pool(name: str, pool: Arrays, sizes: dict[str, int], **described: Any) -> ImageDataset:
    """Carve the splits out of one pool of examples; `described` is what `from_splits` takes."""
    images, labels = pool
    carved = carve(labels, sizes, name=name)
    return from_splits(name, {split: (images[i], labels[i]) for split, i in carved.items()}, **described)


def from_splits(
    name: str,
    splits: dict[str, Arrays],
    *,
    class_names: tuple[str, ...],
    flip_ok: bool,
    crop_padding: int,
    origin: Origin,
    train_examples: int | None = None,
) -> ImageDataset:
    """A `Dataset` in memory. `splits['train']` is in stratified order; `train_examples` keeps its start."""
    sources = {split: _source(name, split, splits[split], len(class_names)) for split in SPLITS}
    train = sources['train']
    kept = train_interval(len(train), train_examples, len(class_names), name=name)
    sources['train'] = train = ArraySource({'image': train['image'][kept], 'label': train['label'][kept]})
    check_variety(train['label'], place=f"split 'train' of data set '{name}'")
    shapes = {split: source['image'].shape[1:] for split, source in sources.items()}
    if len(set(shapes.values())) > 1:
        raise UserError(f"data set '{name}': the splits hold images of different shapes: {shapes}")
    mean, std = statistics(train['image'])
    return ImageDataset(
        name=name,
        image_shape=shapes['train'],
        class_names=class_names,
        splits=sources,
        mean=mean,
        std=std,
        flip_ok=flip_ok,
        crop_padding=crop_padding,
        identity=_identity(sources),
        origin=origin,
    )


def statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, on the 0..1 scale; a constant channel has the deviation 1."""
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    pixels = images.reshape(-1, images.shape[-1])
    mean = pixels.mean(axis=0, dtype=np.float64) / scale
    std = pixels.std(axis=0, dtype=np.float64) / scale
    return tuple(mean.tolist()), tuple(np.where(std > 1e-8, std, 1.0).tolist())


def _source(name: str, split: str, arrays: Arrays, classes: int) -> ArraySource:
    image, label = check_pair(*arrays, classes, place=f"split '{split}' of data set '{name}'")
    return ArraySource({'image': image, 'label': label})


def _identity(sources: dict[str, ArraySource]) -> str:
    digest = hashlib.sha256(f'{RULE}\n'.encode())
    for split, source in sources.items():
        image = source['image']
        digest.update(f'{split} {image.dtype} {image.shape}\n'.encode())
        digest.update(np.ascontiguousarray(image).data)
        digest.update(np.ascontiguousarray(source['label']).data)
    return digest.hexdigest()
