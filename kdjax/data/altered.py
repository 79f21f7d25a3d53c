"""Data sets made from others: mirrored at random, or with wrong labels. `mirrored:digits`, `mislabelled:0.1:digits`.

What happens to an image depends on its content alone, so that subsets and splits agree, and nothing is drawn.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np

from kdjax.data.assemble import from_splits
from kdjax.data.dataset import ArraySource, ImageDataset
from kdjax.errors import UserError


def mirrored(dataset: ImageDataset) -> ImageDataset:
    """About half of the images of every split, in each class, are turned left to right.

    Mirror images keep their labels in the result (`flip_ok`): what looks to the left may as well look to the right.
    """

    def turned(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        turn = (_digests(image) % 2 == 1)[:, None, None, None]
        return np.where(turn, image[:, :, ::-1], image), label

    return _altered(dataset, f'mirrored:{dataset.name}', dict.fromkeys(dataset.splits, turned), flip_ok=True)


def mislabelled(dataset: ImageDataset, share: float) -> ImageDataset:
    """About a `share` of the training images have a wrong label, all wrong ones equally likely.

    Validation and test keep theirs. Raises UserError on a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise UserError(f'mislabelled:{share}:{dataset.name}: the share of wrong labels lies in [0, 1)')

    def wrong(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        digests = _digests(image)
        other = (label + 1 + digests % (dataset.classes - 1)) % dataset.classes
        return image, np.where(digests // 1024 % 1000 < 1000 * share, other, label).astype(np.int32)

    return _altered(dataset, f'mislabelled:{share:g}:{dataset.name}', {'train': wrong}, flip_ok=dataset.flip_ok)


def _digests(images: np.ndarray) -> np.ndarray:
    """A number below 2^32 for each image."""
    return np.array([zlib.crc32(np.ascontiguousarray(image).tobytes()) for image in images], np.int64)


def _altered(
    dataset: ImageDataset,
    name: str,
    changes: Mapping[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]],
    *,
    flip_ok: bool,
) -> ImageDataset:
    def split(of: str) -> tuple[np.ndarray, np.ndarray]:
        source = dataset[of]
        assert isinstance(source, ArraySource), 'altered data sets are in memory'
        pair = np.asarray(source['image']), np.asarray(source['label'])
        return changes[of](*pair) if of in changes else pair

    return from_splits(
        name, {of: split(of) for of in dataset.splits}, class_names=dataset.class_names, flip_ok=flip_ok,
        crop_padding=dataset.crop_padding, origin=dataset.origin,
    )  # fmt: skip
