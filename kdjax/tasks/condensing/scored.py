"""Sets of the hardest images: EL2N scores of networks that have learned for a few epochs."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.condensation.sets import started
from kdjax.data import selection
from kdjax.data.dataset import ImageDataset
from kdjax.models.model import Model
from kdjax.stage import Compute, Output
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.all_images import set_shapes, training_images
from kdjax.tasks.condensing.experts import pretrained
from kdjax.tasks.condensing.method import Made


def el2n(task: CondensedImages, *, networks: int = 10, epochs: int = 20, after: int = 5, largest: bool = True) -> Made:
    """The images of each class whose |p - one-hot| is largest after `after` epochs, the mean over networks.

    networks, epochs: of the buffer of experts that says it, which other methods share. largest=False takes the easiest.
    Source: arXiv 2107.07075, definition 2.2; RS2's code takes the largest.
    """
    task.check_classes(task.per_class)
    buffer = pretrained(task, count=networks, epochs=epochs)
    config = {
        'dataset': task.dataset, 'train_examples': task.train_examples, 'per_class': task.per_class, 'after': after,
        'largest': largest,
    }  # fmt: skip
    stage = Compute(
        name=f'chosen_el2n_{task.per_class}' + '_least' * (not largest), module=__name__, config=config,
        inputs={'experts': buffer}, data=task.data,
        call=functools.partial(_choose, task.matched(), task.data, task.per_class, after, largest),
        shapes=functools.partial(set_shapes, task.set_model()),
    )  # fmt: skip
    return Made(Output(task.once(stage)))


def _choose(model: Model, source: ImageDataset, per_class: int, after: int, largest: bool, inputs: Any, *, key: Any):
    images, labels = training_images(source)

    @jax.jit
    def said(params: Any) -> jax.Array:
        outputs, _ = model.apply({'params': params, 'stats': {}}, images, key=key, train=False)
        return jax.nn.softmax(outputs.prediction)

    buffer = jax.tree.map(lambda leaf: leaf[:, after], inputs['experts'])
    number = len(jax.tree.leaves(buffer)[0])
    probabilities = np.stack([np.asarray(said(jax.tree.map(lambda leaf, n=n: leaf[n], buffer))) for n in range(number)])
    scores = selection.el2n(probabilities, labels)
    sizes: dict[str, Any] = {'classes': source.classes, 'per_class': per_class}
    rows = selection.by_score(scores, labels, largest=largest, **sizes)
    return started(images[jnp.asarray(rows)])
