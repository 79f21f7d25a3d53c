"""A data set: named, disjoint splits with random access, and an identity made of their content."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

Batch = dict[str, np.ndarray]
"""`image` [B, H, W, C] uint8 or float32 in 0..1; `label`, `index` (place in the split) [B] int32."""

SPLITS = ('train', 'validation', 'test')


@runtime_checkable
class Source(Protocol):
    """Random access to one split. `arrays` is the whole split in memory, or None where it stays on disk."""

    @property
    def arrays(self) -> Batch | None: ...

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> Batch: ...


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """A split in memory: `image` [N, H, W, C], `label` [N] int32."""

    image: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    @property
    def arrays(self) -> Batch:
        return {'image': self.image, 'label': self.label, 'index': np.arange(len(self), dtype=np.int32)}

    def take(self, indices: np.ndarray) -> Batch:
        indices = np.asarray(indices, np.int32)
        return {'image': self.image[indices], 'label': self.label[indices], 'index': indices}


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the bytes came from, under which licence, and how much there is."""

    source: str
    licence: str
    size: str


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """An image classification data set with fixed, disjoint train, validation and test splits.

    mean, std: per channel, of the train split, on the 0..1 scale.
    flip_ok: a mirrored image keeps its label (not so for digits). crop_padding: pixels by which a random crop
    may shift.
    identity: sha256 over the content of every split, in order.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    splits: Mapping[str, Source]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip_ok: bool
    crop_padding: int
    identity: str
    origin: Origin

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def __getitem__(self, split: str) -> Source:
        return self.splits[split]

    def in_memory(self) -> Dataset:
        """The same data set with every split in memory, so that batches can be gathered on the device."""
        return dataclasses.replace(self, splits={name: _read(source) for name, source in self.splits.items()})


def _read(source: Source) -> ArraySource:
    whole = source.arrays or source.take(np.arange(len(source)))
    return ArraySource(whole['image'], whole['label'])
