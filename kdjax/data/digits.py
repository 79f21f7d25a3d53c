"""`digits`: 1797 handwritten digits of 8 x 8 pixels that ship inside scikit-learn."""

from __future__ import annotations

import numpy as np

from kdjax.data.assemble import from_pool
from kdjax.data.dataset import ImageDataset, Origin

ORIGIN = Origin(
    source='inside scikit-learn (the test part of UCI optdigits)',
    licence='BSD-3-Clause (scikit-learn)',
    size='1797 x 8x8x1',
)
SIZES = {'train': 1000, 'validation': 297, 'test': 500}


def load(*, train_examples: int | None = None) -> ImageDataset:
    """1000 train, 297 validation, 500 test; float32 images in 0..1 (the originals are 0..16)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images[..., None] / 16.0).astype(np.float32)
    return from_pool(
        'digits',
        (images, found.target),
        SIZES,
        class_names=tuple('0123456789'),
        flip_ok=False,
        crop_padding=1,
        origin=ORIGIN,
        train_examples=train_examples,
    )
