"""`tfds:NAME`: any TFDS image classification data set on this disk, read at random from array_record files.

Reading needs no TensorFlow: `builder.as_data_source` is what `tfds.data_source` calls.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data.assemble import statistics
from kdjax.data.cache import cached
from kdjax.data.checks import check_labels, check_variety
from kdjax.data.dataset import SPLITS, Batch, ImageDataset, Origin
from kdjax.data.splits import RULE, carve, train_interval
from kdjax.errors import UserError

MIRRORED = (
    'cifar',
    'fashion_mnist',
    'imagenet',
    'stl10',
    'food101',
    'flowers',
    'pet',
    'dogs',
    'birds',
    'caltech',
)
"""TFDS names that hold one of these are pictures of things, which keep their label in a mirror."""
CARVED_PART, CARVED_AT_MOST = 10, 5000
STATISTICS_FROM = 2000
HASHED_BYTES = 2**30
READ_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class DiskSource:
    """A split on disk: `records` decodes examples at random, `rows` says which of them are in the split."""

    records: Any
    rows: np.ndarray
    label: np.ndarray
    image_key: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def arrays(self) -> None:
        return None

    def take(self, indices: np.ndarray) -> Batch:
        indices = np.asarray(indices, np.int32)
        found = self.records.__getitems__(self.rows[indices].tolist())
        return {
            'image': np.stack([record[self.image_key] for record in found]),
            'label': self.label[indices],
            'index': indices,
        }


def load(name: str, *, train_examples: int | None = None, folder: Path | None = None) -> ImageDataset:
    """Load `NAME`, `NAME:config`, `NAME:version` or `NAME:config/version` (the latest version here).

    Splits: its own `train`, `validation` and `test`. A `validation` without a `test` is the test split, and
    what is then missing is carved from `train`: a tenth of it, at most 5000 examples, stratified. The labels
    of all splits are read once and cached; mean and std come from the first 2000 train examples. The
    identity covers all labels and the record files (their bytes up to 1 GiB, beyond that names and sizes).
    Raises `UserError` where the data set is not on disk, not in array_record format, or not image -> label.
    """
    builder = open_builder(name, folder or default_folder())
    info = builder.info
    image_key, label_key, shape = _image_and_label(name, info.features)
    if 'train' not in info.splits:
        raise UserError(f"data set 'tfds:{name}' has no split 'train'; it has {sorted(info.splits)}")
    fingerprint = _fingerprint(info)
    wanted = [split for split in SPLITS if split in info.splits]
    labels = cached(
        f'tfds-labels-{fingerprint[:32]}',
        lambda: {split: _labels(builder, split, image_key, label_key) for split in wanted},
    )
    names = tuple(info.features[label_key].names)
    for split in wanted:
        labels[split] = check_labels(
            labels[split], len(names), place=f"split '{split}' of data set 'tfds:{name}'"
        )
    parts = _parts(name, labels)
    kept = train_interval(len(parts['train'][1]), train_examples, len(names), name=f'tfds:{name}')
    parts['train'] = (parts['train'][0], parts['train'][1][kept])
    sources = {
        split: DiskSource(builder.as_data_source(split=own), rows, labels[own][rows], image_key)
        for split, (own, rows) in parts.items()
    }
    check_variety(sources['train'].label, place=f"split 'train' of data set 'tfds:{name}'")
    mean, std = statistics(
        sources['train'].take(np.arange(min(STATISTICS_FROM, len(sources['train']))))['image']
    )
    return ImageDataset(
        name=f'tfds:{name}',
        image_shape=shape,
        class_names=names,
        splits=sources,
        mean=mean,
        std=std,
        flip_ok=any(word in info.name for word in MIRRORED),
        crop_padding=min(shape[:2]) // 8,
        identity=_identity(fingerprint, sources),
        origin=Origin(
            source=f'TFDS {info.full_name}',
            licence=getattr(info.redistribution_info, 'license', '') or 'see its TFDS page',
            size=f'{sum(map(len, sources.values()))} x ' + 'x'.join(map(str, shape)),
        ),
    )


def prepared(folder: Path | None = None) -> list[str]:
    """Names of the TFDS data sets in the folder (default: TFDS_DATA_DIR, else ~/tensorflow_datasets)."""
    root = folder or default_folder()
    return sorted({path.relative_to(root).parts[0] for path in root.glob('*/**/features.json')})


def default_folder() -> Path:
    return Path(os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets').expanduser()


def _find(name: str, root: Path) -> Path:
    """The folder of the latest version of the named configuration, or of the only one."""
    own, _, variant = name.partition(':')
    top = root / own / variant
    found = sorted((path.parent for path in top.glob('**/features.json')), key=_version)
    if not found:
        here = ', '.join(prepared(root)) or '(none)'
        raise UserError(
            f"data set 'tfds:{name}' is not in {root} (there: {here}): where network and TensorFlow are, "
            f'prepare it with `tfds build {own} --file_format=array_record`, and copy its folder there'
        )
    variants = sorted({str(path.parent.relative_to(root / own)) for path in found})
    if len(variants) > 1:
        raise UserError(
            f"data set 'tfds:{name}' has several configurations: choose tfds:{own}:NAME of {variants}"
        )
    return found[-1]


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in path.name.split('.'))


def open_builder(name: str, root: Path) -> Any:
    import tensorflow_datasets as tfds

    place = _find(name, root)
    builder = tfds.builder_from_directory(place)
    stored = builder.info.file_format
    if stored is None or stored.value != 'array_record':
        command = f'tfds convert_format --dataset_version_dir={place} --out_file_format=array_record'
        raise UserError(
            f"data set 'tfds:{name}' is stored as {stored and stored.value}, not array_record: "
            f'rewrite it with `{command}`'
        )
    return builder


def _image_and_label(name: str, features: Any) -> tuple[str, str, tuple[int, int, int]]:
    """Keys of the one image and the one class label, and the shape of the image."""
    kinds = {key: type(feature).__name__ for key, feature in features.items()}
    images = [key for key, kind in kinds.items() if kind == 'Image']
    labels = [key for key, kind in kinds.items() if kind == 'ClassLabel']
    image = 'image' if 'image' in images else images[0] if len(images) == 1 else None
    label = 'label' if 'label' in labels else labels[0] if len(labels) == 1 else None
    if image is None or label is None:
        raise UserError(f"data set 'tfds:{name}' is not one Image with one ClassLabel; its features: {kinds}")
    shape = tuple(features[image].shape)
    if None in shape or features[image].np_dtype != np.uint8:
        raise UserError(
            f"data set 'tfds:{name}': images are {features[image].np_dtype.__name__}{list(shape)}, not uint8 "
            f'of one fixed size: resize them and use npz:FOLDER'
        )
    return image, label, shape


def _labels(builder: Any, split: str, image_key: str, label_key: str) -> np.ndarray:
    import tensorflow_datasets as tfds

    records = builder.as_data_source(split=split, decoders={image_key: tfds.decode.SkipDecoding()})
    starts = range(0, len(records), READ_AT_ONCE)
    chunks = (list(range(start, min(start + READ_AT_ONCE, len(records)))) for start in starts)
    found = [record[label_key] for chunk in chunks for record in records.__getitems__(chunk)]
    return np.array(found, np.int64)


def _parts(name: str, labels: dict[str, np.ndarray]) -> dict[str, tuple[str, np.ndarray]]:
    """For each of our splits, which split of TFDS and which of its records it is made of, in our order."""
    whole = {split: (split, np.arange(len(labels[split]))) for split in labels if split != 'train'}
    if 'test' not in whole and 'validation' in whole:
        whole['test'] = whole.pop('validation')
    missing = [split for split in ('validation', 'test') if split not in whole]
    total = len(labels['train'])
    each = min(total // CARVED_PART, CARVED_AT_MOST)
    if missing and each == 0:
        raise UserError(
            f"split 'train' of data set 'tfds:{name}' has {total} examples: too few to carve {missing}"
        )
    sizes = {'train': total - each * len(missing)} | dict.fromkeys(missing, each)
    carved = {
        split: ('train', rows) for split, rows in carve(labels['train'], sizes, name=f'tfds:{name}').items()
    }
    return {split: (whole | carved)[split] for split in SPLITS}


def _fingerprint(info: Any) -> str:
    digest = hashlib.sha256(info.full_name.encode())
    files = [Path(path) for _, split in sorted(info.splits.items()) for path in split.filepaths]
    small = sum(path.stat().st_size for path in files) <= HASHED_BYTES
    for path in files:
        digest.update(f'{path.name} {path.stat().st_size}\n'.encode())
        if small:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _identity(fingerprint: str, sources: dict[str, DiskSource]) -> str:
    digest = hashlib.sha256(f'{RULE}\n{fingerprint}\n'.encode())
    for split, source in sources.items():
        digest.update(f'{split} {len(source)}\n'.encode())
        digest.update(source.rows.astype(np.int64).data)
        digest.update(source.label.data)
    return digest.hexdigest()
