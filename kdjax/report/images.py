"""Arrays as pictures inside the page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from kdjax.report.markup import Safe, tag


def scaled(images: np.ndarray) -> np.ndarray:
    """[N, H, W] or [N, H, W, C] of any range as uint8; what leaves 0..1 is stretched, all images alike."""
    images = np.nan_to_num(np.asarray(images, np.float64))
    if images.size and (images.min() < 0 or images.max() > 1):
        low, high = images.min(), images.max()
        images = (images - low) / max(high - low, 1e-12)
    return np.round(images * 255).astype(np.uint8)


def data_uri(image: np.ndarray) -> str:
    """A uint8 image [H, W], [H, W, 1] or [H, W, 3] as a PNG data URI."""
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, 'PNG', optimize=True)
    return 'data:image/png;base64,' + base64.b64encode(buffer.getvalue()).decode('ascii')


def picture(image: np.ndarray, alt: str) -> Safe:
    """An <img>; small images keep their pixels."""
    small = max(image.shape[:2]) <= 64
    return tag('img', src=data_uri(image), alt=alt, class_='pixels' if small else None, width=96, height=96)


def grid(images: np.ndarray, rows: np.ndarray, *, columns: int = 8) -> np.ndarray:
    """The first `columns` images of each row, 0, 1, ..., side by side: `[rows * height, columns * width, channels]`.

    rows: `[images]`, in which each stands. What a row lacks stays 0.
    """
    count, (height, width, channels) = int(np.max(rows)) + 1, images.shape[1:]
    filled = np.zeros((count, height, columns, width, channels), images.dtype)
    for row in range(count):
        chosen = images[rows == row][:columns]
        filled[row, :, : len(chosen)] = np.moveaxis(chosen, 0, 1)
    return filled.reshape(count * height, columns * width, channels)
