"""DREAM: gradients are matched to those of one real image near each cluster, and sets start at such images too."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax import losses
from kdjax.algorithms.condensation import matching
from kdjax.algorithms.condensation.networks import pool
from kdjax.algorithms.condensation.representatives import at_random, held, near_centres
from kdjax.algorithms.condensation.sets import flat
from kdjax.data.augment import prepare
from kdjax.models.model import Model
from kdjax.objectives import term
from kdjax.stage import Compute, Output
from kdjax.streams import stream
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.matched import augmentation, passes, summed
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.selected import chosen
from kdjax.tasks.task import Bound

AGE = 100
"""Updates of the set for each network (`inner_loop`)."""


def dream(
    task: CondensedImages,
    *,
    clusters: bool = True,
    every: int = 10,
    start: str = 'k_means',
    steps: int | None = None,
    rate: float | int = 0.1,
    name: str = 'dream',
) -> Made:
    """Gradient matching on networks that learn from real images (IDC's order), with real batches by clusters.

    Args:
        clusters: the real batch is one image near each of `real_batch` centres of a class, by the present network's
            features; otherwise it is drawn at random.
        every: steps for which a batch is held, and clustered anew after. start: 'k_means' or 'random'.
        steps: updates of the set, in the place of the task's. rate: of SGD with momentum 0.5, as in DSA.

    With clusters=False, every=1, start='random' it is the host. Ours: DC's distance of gradients where IDC has squared
    errors, no mosaics, k-means on pixels for the start where they take features of an untrained network, and one
    update of the network for each of the set, on the stage's random batch.
    Source: DREAM, arXiv 2302.14416, condense.py and new_strategy.py; IDC, arXiv 2205.14959.
    """
    model, augment = task.matched(), augmentation(task)
    learning = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.01, momentum=0.9))
    networks = pool(
        model, functools.partial(_on_real, model=model, augment=augment), learning, name='pool', age=AGE, axes=2
    )
    count = task.real_batch
    choose = near_centres(model, count=count) if clusters else at_random(count)
    bound = {
        'pool': Bound(networks, {}),
        'held': Bound(held(choose, name='held', count=count, every=every, network='pool'), {'real': real_images(task)}),
    }
    objective = summed(task, term(
        matching.gradient_matching, 'synthetic', 'synthetic.label', 'held', 'pool', model=model, augment=augment,
        name='dream',
    ))  # fmt: skip
    embedded = len(task.by_class['train']) / every if clusters else 0
    return Made(task.condense(
        name, objective, bound, start=chosen(task, start), steps=steps, optimizer=optax.sgd(rate, momentum=0.5),
        passes=passes(task, real=6, synthetic=9) + task.data.classes * embedded,
        settings={'clusters': clusters, 'every': every, 'rate': rate},
    ))  # fmt: skip


def real_images(task: CondensedImages) -> Output:
    """All training images as networks see them, one of every class in a row: `[rows, classes, *image]`."""
    config = {'dataset': task.dataset, 'train_examples': task.train_examples}
    stage = Compute(
        name='real_images', module=__name__, config=config, data=task.data, shared=True,
        call=functools.partial(_real_images, task.by_class),
    )  # fmt: skip
    return Output(task.once(stage))


def _real_images(source: Any, inputs: Any, *, key: jax.Array) -> jax.Array:
    del inputs, key
    images = jnp.asarray(source['train'].take(np.arange(len(source['train'])))['image'])
    flattened = prepare(images.reshape(-1, *images.shape[2:]), mean=source.mean, std=source.std)
    return flattened.reshape(images.shape)


def _on_real(variables: Any, view: Any, *, key: jax.Array, model: Model, augment: matching.Augment) -> jax.Array:
    """What a network of the pool learns: the random batch of the stage, all classes at once."""
    images, labels = view['batch.image'], view['batch.label']
    images = augment(images, key=stream(key, 'augment'))
    seen, said = flat(images, labels)
    outputs, _ = model.apply(variables, seen, key=stream(key, 'forward'), train=True)
    return jnp.mean(losses.cross_entropy(outputs.prediction, said))
