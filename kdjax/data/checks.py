"""What every split must satisfy before anything is trained on it."""

from __future__ import annotations

import numpy as np

from kdjax.errors import UserError


def check_pair(
    images: np.ndarray, labels: np.ndarray, classes: int | None, *, place: str
) -> tuple[np.ndarray, np.ndarray]:
    """Checked images [N, H, W, C] and labels [N], as many of the one as of the other, or a `UserError`."""
    if len(images) != len(labels):
        raise UserError(f'{place}: {len(images)} images but {len(labels)} labels')
    return check_images(images, place=place), check_labels(labels, classes, place=place)


def check_labels(labels: np.ndarray, classes: int | None, *, place: str) -> np.ndarray:
    """int32 labels [N] in 0..classes-1 (None: no upper limit), or a `UserError` that names the first bad."""
    if labels.ndim != 1 or labels.dtype.kind not in 'iu':
        raise UserError(f'{place}: labels must be integers [N], not {labels.dtype}{list(labels.shape)}')
    if len(labels) == 0:
        raise UserError(f'{place} is empty: it needs at least one example')
    bad = np.flatnonzero((labels < 0) | (labels >= (classes or np.inf)))
    if len(bad):
        allowed = f'0..{classes - 1}' if classes else '0, 1, 2, ...'
        raise UserError(f'{place}: label {labels[bad[0]]} of example {bad[0]} is not in {allowed}')
    return labels.astype(np.int32)


def check_variety(labels: np.ndarray, *, place: str) -> None:
    """At least two classes, or a `UserError`: a classifier of one class is right without learning."""
    if len(np.unique(labels)) < 2:
        raise UserError(f'{place} holds a single class ({labels[0]}): a classifier needs at least two')


def check_images(images: np.ndarray, *, place: str) -> np.ndarray:
    """uint8 or finite float32 images [N, H, W, C] in 0..1 (a missing C is added), or a `UserError`."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise UserError(f'{place}: images must be [N, H, W, C] or [N, H, W], not {list(images.shape)}')
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != 'f':
        raise UserError(f'{place}: images must be uint8 (0..255) or float (0..1), not {images.dtype}')
    bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
    if len(bad):
        raise UserError(
            f'{place}: image {bad[0]} holds NaN or infinity ({len(bad)} such images): repair or drop it'
        )
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        span = f'{images.min():g} to {images.max():g}'
        raise UserError(
            f'{place}: float images must lie in 0..1, these span {span}: rescale, or store them as uint8'
        )
    return images.astype(np.float32)
