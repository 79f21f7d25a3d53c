"""RDED: the crops of real images that a teacher is surest of, several of them in one stored image."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses
from kdjax.algorithms.condensation.recovery import resized_crop
from kdjax.algorithms.condensation.sets import started
from kdjax.data import selection
from kdjax.data.condensed import factorised
from kdjax.data.dataset import ImageDataset
from kdjax.models.model import Model
from kdjax.stage import Compute, Output
from kdjax.streams import stream
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.all_images import set_shapes, training_images
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.recovered import suiting

AT_ONCE = 256
"""Images that the teacher scores together."""


def rded(
    task: CondensedImages,
    *,
    factor: int = 1,
    crops: int = 5,
    pool: int = 300,
    least: float | None = None,
    name: str = 'rded',
) -> Made:
    """RDED: of `pool` images of each class, the best of `crops` random square crops each, and the best of those.

    Best is the least cross-entropy of the task's teacher. least: share of the area that a crop keeps at least,
    that of `recovered.suiting` unless given.
    factor: of mosaics; 1 for images as small as those of CIFAR, 2 for larger ones. Ours: a crop is scored at full
    size, and students see the tiles of a mosaic one by one, enlarged, where the authors pad crops and show mosaics
    whole. Relabelling is `CondensedImages.measured`.
    Source: arXiv 2312.03526, algorithm 1, and its synthesize/utils.py.
    """
    wanted = task.per_class * factor**2
    task.check_classes(wanted)
    trained = task.trained_teacher
    options = {'wanted': wanted, 'factor': factor, 'crops': crops, 'pool': pool, 'least': least or suiting(task).least}
    stage = Compute(
        name=f'{name}_{task.per_class}' + f'_x{factor}' * (factor > 1), module=__name__,
        config={'per_class': task.per_class, 'model': trained.model.name, **options},
        inputs={'teacher': trained.variables}, data=task.data,
        call=functools.partial(_rded, trained.model, task.data, options),
        shapes=functools.partial(set_shapes, task.set_model()),
    )  # fmt: skip
    return Made(Output(task.once(stage)), factor=factor)


def _rded(model: Model, source: ImageDataset, options: Mapping[str, Any], inputs: Any, *, key: jax.Array) -> Any:
    images, labels = training_images(source)
    classes, wanted = source.classes, options['wanted']
    seed = int(jax.random.bits(stream(key, 'pool'), dtype=jnp.uint32))
    fewest = min(np.bincount(labels, minlength=classes))
    size = min(max(options['pool'], wanted), int(fewest))
    rows = selection.random_rows(labels, classes=classes, per_class=size, seed=seed).reshape(-1)
    best, scores = jax.jit(functools.partial(_best_crops, model, least=options['least'], crops=options['crops']))(
        images[rows], jnp.asarray(labels[rows]), inputs['teacher'], key=stream(key, 'crops')
    )
    first = np.argsort(np.asarray(scores).reshape(size, classes), axis=0, kind='stable')[:wanted]
    chosen = np.asarray(best).reshape(size, classes, *images.shape[1:])[first, np.arange(classes)]
    factor = options['factor']
    return started(chosen if factor == 1 else factorised(chosen, factor))


def _best_crops(model: Model, images, labels, variables, *, key: jax.Array, least: float, crops: int):
    """Of each image the crop with the least cross-entropy, and that: `[images, H, W, C]`, `[images]`."""

    def of_one(given):
        image, label, draw = given
        cut = jax.vmap(lambda k: resized_crop(image[None], key=k, least=least, widest=1.0)[0])(
            jax.random.split(draw, crops)
        )
        said = model.apply(variables, cut, key=draw, train=False)[0].prediction
        scores = losses.cross_entropy(said, jnp.broadcast_to(label, (crops,)))
        return cut[jnp.argmin(scores)], jnp.min(scores)

    given = images, labels, jax.random.split(key, len(images))
    return jax.lax.map(of_one, given, batch_size=AT_ONCE)
