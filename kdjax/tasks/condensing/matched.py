"""Sets matched to real images class by class: gradients (DC, DSA) and mean embeddings (DM).

Rates, momentum and starts are the authors'; `task.set_steps` is how many updates a set gets, where they take
1000 times 1, 10 or 50 (DC, DSA) and 20,000 (DM).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax import losses
from kdjax.algorithms.condensation import matching
from kdjax.algorithms.condensation.networks import pool
from kdjax.algorithms.condensation.sets import flat
from kdjax.algorithms.condensation.siamese import siamese
from kdjax.models.model import Model
from kdjax.objectives import Objective, term
from kdjax.stage import Output
from kdjax.streams import stream
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.selected import chosen
from kdjax.tasks.task import Bound

LOOPS = ((1, 1, 1), (10, 10, 50), (20, 20, 25), (30, 30, 20), (40, 40, 15), (50, 50, 10))
"""Of DC: from how many images per class, updates of the set with one network, epochs of the network between two."""


def augmentation(task: CondensedImages) -> matching.Augment:
    """The Siamese one of DSA and DM, with mirror images where labels allow them."""
    names = ('color', 'crop', 'cutout', *(('flip',) if task.data.flip_ok else ()), 'scale', 'rotate')
    return functools.partial(siamese, strategy=names)


def dc(task: CondensedImages) -> Made:
    """DC: gradients of networks that learn from the set on the way; the set starts as noise.

    Source: arXiv 2006.05929, algorithm 1, and its main.py (SGD at 0.1 with momentum 0.5; networks at 0.01).
    """
    return Made(_by_gradients(task, 'dc', augment=None, start=None))


def dsa(task: CondensedImages) -> Made:
    """DSA: DC under one augmentation of both sides; the set starts at random real images.

    Source: arXiv 2102.08259, and the same main.py.
    """
    return Made(_by_gradients(task, 'dsa', augment=augmentation(task), start=chosen(task)))


def dm(task: CondensedImages, *, rate: float = 1.0, mirrored: bool = False, name: str = 'dm') -> Made:
    """DM: mean features of networks that never learn, under one augmentation; from random real images.

    rate: of SGD with momentum 0.5. mirrored: FYI, the set enters with its mirror images.
    Source: arXiv 2110.04181, equation 4, and its main_DM.py.
    """
    objective = summed(task, term(
        matching.mean_embedding, 'synthetic', 'batch.image', 'network', model=task.matched(),
        augment=augmentation(task), mirrored=mirrored, name='dm',
    ))  # fmt: skip
    return Made(task.condense(
        name, objective, {'network': task.fresh_networks()}, start=chosen(task),
        optimizer=optax.sgd(rate, momentum=0.5), settings={'rate': rate, 'mirrored': mirrored},
        passes=passes(task, real=1, synthetic=6 if mirrored else 3),
    ))  # fmt: skip


def passes(task: CondensedImages, *, real: float | int, synthetic: float | int) -> float | int:
    """Forward passes of a step: so many over every real image of the batch and every image of the set."""
    return task.data.classes * (real * task.real_batch + synthetic * task.per_class)


def summed(task: CondensedImages, objective: Objective) -> Objective:
    """Added over classes, as the authors' programs do, in place of the mean: their rates are of the sum."""
    return float(task.data.classes) * objective


def _by_gradients(task: CondensedImages, name: str, augment: matching.Augment | None, start: Output | None) -> Output:
    _, age, epochs = max(loop for loop in LOOPS if loop[0] <= task.per_class)
    model = task.matched()
    networks = pool(
        model, functools.partial(_on_the_set, model=model, augment=augment), optax.sgd(0.01), name='pool', age=age,
        updates=epochs, axes=2,
    )  # fmt: skip
    objective = summed(task, term(
        matching.gradient_matching, 'synthetic', 'synthetic.label', 'batch.image', 'pool', model=model,
        augment=augment, name=name,
    ))  # fmt: skip
    return task.condense(
        name, objective, {'pool': Bound(networks, {})}, start=start, optimizer=optax.sgd(0.1, momentum=0.5),
        passes=passes(task, real=3, synthetic=9 + 3 * epochs),
    )  # fmt: skip


def _on_the_set(variables: Any, view: Any, *, key: jax.Array, model: Model, augment: matching.Augment | None):
    """What a network of the pool learns: all of the set at once, as the authors do up to 256 images."""
    images, labels = flat(view['synthetic'], view['synthetic.label'])
    if augment is not None:
        images = augment(images, key=stream(key, 'augment'))
    said = model.apply(variables, images, key=stream(key, 'forward'), train=True)[0].prediction
    return jnp.mean(losses.cross_entropy(said, labels))
