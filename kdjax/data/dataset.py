"""A data set: named, disjoint splits with random access, and an identity made of their content."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from kdjax.errors import UserError

Batch = dict[str, np.ndarray]
"""Columns by name, one row for each example; `index` is its place in the split.

Of images: `image` [B, H, W, C] uint8 or float32 in 0..1, `label` [B] int32.
"""

SPLITS = ('train', 'validation', 'test')

D = TypeVar('D', bound='Dataset')


@runtime_checkable
class Source(Protocol):
    """Random access to one split. `arrays` is the whole split in memory, or None where it stays on disk."""

    @property
    def arrays(self) -> Batch | None: ...

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> Batch: ...


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """A split in memory: columns of any kind, `[examples, ...]` each. Raises ValueError where their lengths differ."""

    columns: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f'the columns of a split have one length, not {lengths}')

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    @property
    def arrays(self) -> Batch:
        return {**self.columns, 'index': np.arange(len(self), dtype=np.int32)}

    def take(self, indices: np.ndarray) -> Batch:
        indices = np.asarray(indices, np.int32)
        return {**{name: column[indices] for name, column in self.columns.items()}, 'index': indices}


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the bytes came from, under which licence, and how much there is."""

    source: str
    licence: str
    size: str


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Fixed, disjoint train, validation and test splits.

    identity: sha256 over the content of every split, in order.
    """

    name: str
    splits: Mapping[str, Source]
    identity: str
    origin: Origin

    def __getitem__(self, split: str) -> Source:
        return self.splits[split]

    def in_memory(self: D) -> D:
        """The same data set with every split in memory, so that batches can be gathered on the device."""
        return dataclasses.replace(self, splits={name: _read(source) for name, source in self.splits.items()})


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ImageDataset(Dataset):
    """Images and their classes.

    mean, std: per channel, of the train split, on the 0..1 scale.
    flip_ok: a mirrored image keeps its label (not so for digits). crop_padding: pixels by which a random crop
    may shift.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip_ok: bool
    crop_padding: int

    @property
    def classes(self) -> int:
        return len(self.class_names)


def first_rows(dataset: D, rows: int) -> D:
    """The data set with the first rows of its train split alone. Raises `UserError` if it has fewer."""
    train = dataset['train']
    if not 1 <= rows <= len(train):
        raise UserError(f"{rows} rows of the train split of '{dataset.name}': choose from 1 to {len(train)}")
    source = in_rows(train, np.arange(rows))
    identity = hashlib.sha256(f'{dataset.identity} {rows}'.encode()).hexdigest()
    return dataclasses.replace(dataset, splits={**dataset.splits, 'train': source}, identity=identity)


def in_rows(source: Source, rows: np.ndarray) -> ArraySource:
    """These rows of a split, in memory, as a split of their own."""
    return ArraySource({name: column for name, column in source.take(rows).items() if name != 'index'})


def _read(source: Source) -> ArraySource:
    return source if isinstance(source, ArraySource) else in_rows(source, np.arange(len(source)))
