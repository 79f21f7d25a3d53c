"""What stages that choose images share: all training images, and the shapes of what they leave."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.augment import prepare
from kdjax.data.dataset import ImageDataset
from kdjax.models.model import Model


def training_images(source: ImageDataset) -> tuple[jax.Array, np.ndarray]:
    """All of them as networks see them, `[examples, H, W, C]`, and their labels."""
    train = source['train'].take(np.arange(len(source['train'])))
    return prepare(jnp.asarray(train['image']), mean=source.mean, std=source.std), np.asarray(train['label'])


def set_shapes(model: Model, inputs: Any) -> Any:
    """`Compute.shapes` of a stage that leaves the variables of a set, given its model."""
    del inputs
    return jax.eval_shape(lambda: model.init(jax.random.key(0), None))
