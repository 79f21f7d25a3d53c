"""The buffer of experts' ways that trajectory methods match."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.algorithms.condensation.experts import expert
from kdjax.data.dataset import ImageDataset
from kdjax.models.model import Model
from kdjax.stage import Compute, Output
from kdjax.streams import stream
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.all_images import training_images


def experts(
    task: CondensedImages,
    *,
    count: int = 10,
    epochs: int = 20,
    rate: float = 0.1,
    expert_batch: int = 64,
    radius: float = 0.0,
    weight: float = 1.0,
    name: str = 'experts',
) -> Output:
    """A buffer `[count, epochs + 1, ...]` of the ways of students over all training images, shared by all seeds.

    radius, weight: of `algorithms.condensation.experts.flat_gradient`; radius > 0 takes two gradients a step.
    `drawn_from` reads it. Two buffers of one experiment need two names.
    """
    options = {'epochs': epochs, 'batch': expert_batch, 'rate': rate, 'radius': radius, 'weight': weight}
    config = {
        'dataset': task.dataset, 'train_examples': task.train_examples, 'model': task.matched().name,
        'count': count, **options,
    }  # fmt: skip
    call = functools.partial(_experts, task.matched(), task.data, count, options)
    stage = Compute(name=name, module=__name__, config=config, data=task.data, shared=True, call=call)
    return Output(task.once(stage))


def pretrained(task: CondensedImages, *, count: int, epochs: int) -> Output:
    """Experts as networks that were trained beforehand, one buffer for all methods that ask for as many.

    Minibatches of 64, or of all images where there are fewer.
    """
    batch = min(64, len(task.data['train']))
    return experts(task, count=count, epochs=epochs, expert_batch=batch, name='pretrained')


def _experts(
    model: Model, source: ImageDataset, count: int, options: Mapping[str, Any], inputs: Any, *, key: jax.Array
) -> Any:
    del inputs
    images, classes = training_images(source)
    labels = jnp.asarray(classes)

    @jax.jit
    def one_after_the_other(keys):
        return jax.lax.map(lambda key: expert(model, images, labels, key=key, **options), keys)

    return one_after_the_other(jax.random.split(stream(key, 'experts'), count))
