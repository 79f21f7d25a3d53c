"""Sets of real training images: the baselines of every method, and where most of them start."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.condensation.sets import started
from kdjax.data import selection
from kdjax.data.condensed import factorised
from kdjax.data.dataset import ImageDataset
from kdjax.errors import unknown
from kdjax.stage import Compute, Output
from kdjax.streams import stream
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.all_images import set_shapes, training_images
from kdjax.tasks.condensing.method import Made

CHOOSERS = {'herding': selection.herding, 'k_center': selection.k_center, 'graph_cut': selection.graph_cut}
WAYS = ('random', 'k_means', *CHOOSERS)


def random(task: CondensedImages) -> Made:
    """Images of each class at random, others for each seed."""
    return Made(chosen(task, 'random'))


def k_means(task: CondensedImages) -> Made:
    """The image nearest to each centre of k-means on pixels, in each class. Other starts for each seed."""
    return Made(chosen(task, 'k_means'))


def herding(task: CondensedImages) -> Made:
    """Images whose running mean follows that of their class, pixels as features."""
    return Made(chosen(task, 'herding'))


def k_center(task: CondensedImages) -> Made:
    """Images far from one another: greedy k-center on pixels, in each class."""
    return Made(chosen(task, 'k_center'))


def graph_cut(task: CondensedImages) -> Made:
    """Images near all others of their class and apart from one another, by cosines of pixels."""
    return Made(chosen(task, 'graph_cut'))


def chosen(
    task: CondensedImages,
    way: str = 'random',
    *,
    factor: int = 1,
    soft_labels: bool = False,
    rate: float | None = None,
) -> Output:
    """Real training images as a set, drawn anew for each seed where `way` draws: a baseline, or where to start.

    factor: of mosaics, each of factor^2 images. soft_labels, rate: as of the set that starts there.
    Raises UserError on an unknown way, and where a class has too few images.
    """
    if way not in WAYS:
        raise unknown('way to choose images', way, WAYS)
    per_class = task.per_class * factor**2
    learned: dict[str, Any] = {'soft_labels': soft_labels, 'rate': rate}
    task.check_classes(per_class)
    config = {
        'dataset': task.dataset, 'train_examples': task.train_examples, 'way': way, 'per_class': task.per_class,
        'factor': factor, **learned,
    }  # fmt: skip
    suffix = f'_x{factor}' * (factor > 1) + '_soft' * soft_labels + '_rate' * (rate is not None)
    stage = Compute(
        name=f'chosen_{way}_{task.per_class}{suffix}', module=__name__, config=config, data=task.data,
        call=functools.partial(_choose, task.data, way, per_class, factor, learned),
        shapes=functools.partial(set_shapes, task.set_model(**learned)),
    )  # fmt: skip
    return Output(task.once(stage))


def _choose(
    source: ImageDataset,
    way: str,
    per_class: int,
    factor: int,
    options: Mapping[str, Any],
    inputs: Any,
    *,
    key: jax.Array,
) -> Any:
    del inputs
    seen, labels = training_images(source)
    images = np.asarray(seen)
    seed = int(jax.random.bits(stream(key, 'choice'), dtype=jnp.uint32))
    sizes = {'classes': source.classes, 'per_class': per_class}
    choose = {n: functools.partial(selection.within_classes, c, images, labels, **sizes) for n, c in CHOOSERS.items()}
    choose |= {
        'random': functools.partial(selection.random_rows, labels, seed=seed, **sizes),
        'k_means': functools.partial(
            selection.k_means_rows, images.reshape(len(images), -1), labels, seed=seed, **sizes
        ),
    }
    rows = choose[way]()
    taken = images[rows]
    return started(taken if factor == 1 else factorised(taken, factor), **options)
