"""Real images that experts classify correctly, with what these say of them: where DATM starts."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.condensation.experts import logits_of_the_right
from kdjax.algorithms.condensation.sets import started
from kdjax.data.dataset import ImageDataset
from kdjax.models.model import Model
from kdjax.stage import Compute, Output
from kdjax.streams import stream
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.all_images import set_shapes, training_images


def understood(
    task: CondensedImages, buffer: Output, *, epoch: int = -1, soft_labels: bool = True, rate: float | None = None
) -> Output:
    """Images of each class at random, first those that the first expert classifies correctly, then the second, ...

    buffer: of experts; epoch: of theirs that is asked, the last unless said. soft_labels: each image has the mean
    logits of the experts that are right about it, see `logits_of_the_right`; hard labels otherwise.
    Source: DATM, arXiv 2310.05773, section 3.4, and its DATM.py (`samples_predicted_correctly`).
    """
    task.check_classes(task.per_class)
    options: dict[str, Any] = {'soft_labels': soft_labels, 'rate': rate}
    stage = Compute(
        name=f'understood_{task.per_class}' + '_soft' * soft_labels, module=__name__,
        config={'per_class': task.per_class, 'model': task.matched().name, 'epoch': epoch, **options},
        inputs={'experts': buffer}, data=task.data,
        call=functools.partial(_understood, task.matched(), task.data, task.per_class, epoch, options),
        shapes=functools.partial(set_shapes, task.set_model(**options)),
    )  # fmt: skip
    return Output(task.once(stage))


def said_by_experts(model: Model, source: ImageDataset, experts: Any, epoch: int) -> tuple[Any, Any, jax.Array]:
    """All training images as networks see them, their labels, and logits `[experts, examples, classes]` on them."""
    images, labels = training_images(source)

    @jax.jit
    def logits(images, experts):
        def one(params):
            variables = {'params': params, 'stats': {}}
            return model.apply(variables, images, key=jax.random.key(0), train=False)[0].prediction

        return jax.lax.map(one, jax.tree.map(lambda a: a[:, epoch], experts))

    return images, labels, logits(images, experts)


def _understood(
    model: Model,
    source: ImageDataset,
    per_class: int,
    epoch: int,
    options: Mapping[str, Any],
    inputs: Any,
    *,
    key: jax.Array,
) -> Any:
    images, labels, logits = said_by_experts(model, source, inputs['experts'], epoch)
    right = np.asarray(logits).argmax(-1) == labels[None]
    first = np.where(right.any(0), right.argmax(0), len(right))
    order = np.asarray(jax.random.permutation(stream(key, 'choice'), len(labels)))
    order = order[np.argsort(first[order], kind='stable')]
    rows = np.stack([order[labels[order] == c][:per_class] for c in range(source.classes)], axis=1)
    own = logits_of_the_right(logits[:, rows.reshape(-1)], jnp.asarray(labels[rows.reshape(-1)]))
    soft = own.reshape(*rows.shape, -1) if options['soft_labels'] else None
    return started(images[rows], logits=soft, rate=options['rate'])
