"""Condensed sets: a plain `.npz` that loads without kdjax, and real data arranged class by class to make one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data.checks import check_labels
from kdjax.data.dataset import ArraySource, ImageDataset
from kdjax.data.npz import plain_arrays
from kdjax.data.selection import members
from kdjax.errors import UserError

FORMAT = 'kdjax condensed set 1'
PROVENANCE = ('method', 'dataset', 'identity', 'per_class', 'seed')
"""What every set says of its origin, at least."""


@dataclasses.dataclass(frozen=True, eq=False)
class CondensedSet:
    """A small set that networks are trained on.

    image: float32 `[examples, height, width, channels]` on the 0..1 scale of the data, or beyond where
        learning went there; networks read (image - mean) / std. label: int32 `[examples]`.
    soft_label: float32 `[examples, classes]`, distributions, or None. rate: of inner training, if it was learned.
    mean, std: per channel, of the real training split.
    provenance: JSON: `method`, `dataset` and its `identity`, `per_class`, `seed`, and whatever else made it.
    """

    image: np.ndarray
    label: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]
    provenance: Mapping[str, Any]
    soft_label: np.ndarray | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        missing = sorted(set(PROVENANCE) - set(self.provenance))
        if missing:
            raise UserError(f'the provenance of a condensed set lacks {missing}: say what made it')
        examples = len(self.image)
        if self.image.ndim != 4 or len(self.label) != examples or self.label.ndim != 1:
            raise UserError(
                f'a condensed set of images {list(self.image.shape)} and labels {list(self.label.shape)}: it needs '
                '[N, H, W, C] and [N]'
            )
        if not np.isfinite(self.image).all():
            raise UserError('a condensed set holds NaN or infinity: its condensation diverged')
        if self.soft_label is not None and (self.soft_label.ndim != 2 or len(self.soft_label) != examples):
            raise UserError(f'soft labels {list(self.soft_label.shape)} of {examples} images: they need [N, classes]')

    @property
    def seen(self) -> np.ndarray:
        """Images as networks read them, float32."""
        mean, std = (np.asarray(v, np.float32) for v in (self.mean, self.std))
        return (self.image - mean) / std

    @property
    def stored_bytes(self) -> dict[str, int]:
        """What the set needs on disk, uncompressed: `images`, `labels` (soft ones too), `total`."""
        labels = self.label.nbytes + (0 if self.soft_label is None else self.soft_label.nbytes)
        return {'images': self.image.nbytes, 'labels': labels, 'total': self.image.nbytes + labels}


def save_condensed(path: Path, condensed: CondensedSet) -> None:
    """Write the set: `numpy.load(path)` gives `image`, `label`, `mean`, `std`, `provenance` (JSON text) and so on."""
    optional = {'soft_label': condensed.soft_label, 'rate': condensed.rate}
    arrays: dict[str, Any] = {n: np.asarray(v, np.float32) for n, v in optional.items() if v is not None}
    np.savez_compressed(
        path,
        format=FORMAT,
        image=np.asarray(condensed.image, np.float32),
        label=np.asarray(condensed.label, np.int32),
        mean=np.asarray(condensed.mean, np.float32),
        std=np.asarray(condensed.std, np.float32),
        provenance=json.dumps(dict(condensed.provenance), sort_keys=True),
        **arrays,
    )


def load_condensed(path: Path, *, dataset: ImageDataset | None = None) -> CondensedSet:
    """Read a set back. Raises `UserError` on a file that is not one, and on one of other data than `dataset`."""
    arrays = plain_arrays(path, 'name a set that `save_condensed` wrote')
    if str(arrays.get('format')) != FORMAT:
        raise UserError(
            f"'{path}' is no condensed set: it holds {sorted(arrays)}, and its format is {arrays.get('format')} where "
            f"'{FORMAT}' is needed. To train on your own images use 'npz:FOLDER'"
        )
    condensed = CondensedSet(
        arrays['image'],
        arrays['label'],
        tuple(arrays['mean'].tolist()),
        tuple(arrays['std'].tolist()),
        json.loads(str(arrays['provenance'])),
        arrays.get('soft_label'),
        float(arrays['rate']) if 'rate' in arrays else None,
    )
    if dataset is not None and condensed.provenance['identity'] != dataset.identity:
        raise UserError(
            f"'{path}' was made of '{condensed.provenance['dataset']}' with other content than '{dataset.name}' here: "
            'load the data set that it names, with as many training examples'
        )
    if dataset is not None:
        _check_fits(condensed, dataset, path)
    return condensed


def _check_fits(condensed: CondensedSet, dataset: ImageDataset, path: Path) -> None:
    """Images of the same shape, labels of the same classes."""
    if condensed.image.shape[1:] != dataset.image_shape:
        raise UserError(
            f"'{path}' holds images {list(condensed.image.shape[1:])}, '{dataset.name}' {list(dataset.image_shape)}"
        )
    check_labels(condensed.label, dataset.classes, place=f"'{path}'")
    if condensed.soft_label is not None and condensed.soft_label.shape[1] != dataset.classes:
        raise UserError(
            f"'{path}' holds soft labels of {condensed.soft_label.shape[1]} classes, '{dataset.name}' has "
            f'{dataset.classes}'
        )


def by_class(dataset: ImageDataset) -> ImageDataset:
    """The training split with one image of every class in a row: `image` `[classes, H, W, C]`, `label` `[classes]`.

    Row i holds the (i mod n_c)-th image of class c, as many rows as the largest class has images, so that a batch of
    rows is a batch of that size for every class. Held-out splits keep a single row: sets are measured by networks that
    learn from them, on the data set itself. Raises `UserError` where a class has no image.
    """
    splits = {name: _rows(source, dataset.classes) for name, source in dataset.splits.items() if name == 'train'}
    one = ArraySource({name: column[:1] for name, column in splits['train'].columns.items()})
    identity = hashlib.sha256(f'{dataset.identity} by class'.encode()).hexdigest()
    splits = {name: splits.get(name, one) for name in dataset.splits}
    return dataclasses.replace(dataset, splits=splits, identity=identity)


def _rows(source: Any, classes: int) -> ArraySource:
    arrays = source.take(np.arange(len(source)))
    found = members(arrays['label'], classes, 1)
    rows = max(map(len, found))
    places = np.stack([np.resize(own, rows) for own in found], axis=1)
    return ArraySource({'image': arrays['image'][places], 'label': arrays['label'][places]})


def factorised(images: np.ndarray, factor: int) -> np.ndarray:
    """Mosaics: `factor`^2 images of one class in the place of one, each averaged down: IDC's storage.

    images `[factor^2 * n, classes, H, W, C]` -> `[n, classes, H, W, C]`. `decoded` is the way back.
    Raises UserError where the factor does not divide the sides and the number of images.
    Source: IDC, arXiv 2205.14959, section 3.2 (multi-formation).
    """
    count, classes, height, width, channels = images.shape
    if factor < 1 or height % factor or width % factor or count % factor**2:
        raise UserError(
            f'{count} images of {height} x {width} in mosaics of {factor} x {factor}: the factor divides both sides, '
            'and its square the number of images'
        )
    small = images.reshape(count, classes, height // factor, factor, width // factor, factor, channels).mean((3, 5))
    tiles = small.reshape(count // factor**2, factor, factor, classes, height // factor, width // factor, channels)
    return tiles.transpose(0, 3, 1, 4, 2, 5, 6).reshape(count // factor**2, classes, height, width, channels)
