"""A stage that measures features without training on them: a linear readout, and how near they are to a teacher's."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data import selection
from kdjax.data.augment import prepare
from kdjax.data.dataset import ImageDataset
from kdjax.metrics.readout import linear_readout
from kdjax.models.model import Model, Outputs, Variables


def seen(source: ImageDataset, split: str) -> jax.Array:
    """All images of a split, as networks see them."""
    held = source[split]
    return prepare(jnp.asarray(held.take(np.arange(len(held)))['image']), mean=source.mean, std=source.std)


@dataclasses.dataclass(frozen=True)
class Readout:
    """What `Compute` calls: variables of `network` and of `teacher` in, metrics of held-out splits out.

    labelled: images of each class that a readout sees; draws: how many such sets of them, the same for every arm and
    seed. Metrics: `accuracy` with those, the mean over draws; `all/accuracy` with all training labels; `unexplained`,
    the squared error of the network's prediction to the teacher's `tap`, over the variance of that.
    """

    data: ImageDataset
    network: Model
    teacher: Model
    labelled: int
    draws: int
    tap: str = 'pooled'

    def __call__(self, inputs: Mapping[str, Variables], *, key: jax.Array) -> tuple[dict[str, Any], dict[str, Any]]:
        del key
        ask = jax.jit(self._said)
        said = {split: ask(inputs, seen(self.data, split)) for split in self.data.splits}
        features = {split: np.asarray(mine.taps[self.tap]) for split, (mine, _) in said.items()}
        labels = {n: np.asarray(self.data[n].take(np.arange(len(self.data[n])))['label']) for n in self.data.splits}
        read = functools.partial(linear_readout, features['train'], labels['train'], classes=self.data.classes)

        def accuracy(split: str, rows: np.ndarray) -> float:
            return float(np.mean(np.argmax(read(features[split], rows=rows), axis=1) == labels[split]))

        def measured(split: str) -> dict[str, float]:
            mine, others = said[split]
            wanted = np.asarray(others.taps[self.tap])
            error = np.square(np.asarray(mine.prediction) - wanted).mean()
            few = [accuracy(split, rows) for rows in self._few(labels['train'])]
            return {
                'accuracy': float(np.mean(few)),
                'all/accuracy': accuracy(split, np.arange(len(labels['train']))),
                'unexplained': float(error / wanted.var(axis=0).mean()),
            }

        return {}, {'metrics': {split: measured(split) for split in ('validation', 'test')}}

    def _said(self, inputs: Mapping[str, Variables], images: jax.Array) -> tuple[Outputs, Outputs]:
        key = jax.random.key(0)
        mine, _ = self.network.apply(inputs['network'], images, key=key, train=False)
        others, _ = self.teacher.apply(inputs['teacher'], images, key=key, train=False)
        return mine, others

    def _few(self, labels: np.ndarray) -> list[np.ndarray]:
        sizes = {'classes': self.data.classes, 'per_class': self.labelled}
        return [selection.random_rows(labels, seed=seed, **sizes).ravel() for seed in range(self.draws)]
