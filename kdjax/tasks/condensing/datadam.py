"""DataDAM: attention maps of networks that never learn, and in the place of the last map the mean feature (as DM)."""

from __future__ import annotations

import jax
import optax

from kdjax.algorithms.condensation import matching
from kdjax.errors import UserError
from kdjax.models.model import Model
from kdjax.objectives import term
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.matched import augmentation, passes, summed
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.selected import chosen

SCALE = 100.0
"""Of both distances in the released code, whose rate of 1 is for that; the weight of features then is DM's."""


def datadam(
    task: CondensedImages,
    *,
    power: float | int = 4,
    embedding: float | int = 0.01,
    rate: float | int = 1.0,
    name: str = 'datadam',
) -> Made:
    """Attention and mean features, under one augmentation; the set starts at random real images.

    power: of activations in a map; 4 in the paper, 1 in what the released code runs. embedding: weight of the mean
    features; 0 leaves attention alone. rate: of SGD with momentum 0.5.
    Source: arXiv 2310.00093, equations 2-5, and main_DataDAM.py (8000 updates by its table, 20,000 in the code).
    """
    model = task.matched()
    objective = SCALE * summed(task, term(
        matching.attention_matching, 'synthetic', 'batch.image', 'network', model=model,
        maps=maps_before_the_last(model, task.example()), power=power, embedding=embedding,
        augment=augmentation(task), name='datadam',
    ))  # fmt: skip
    return Made(task.condense(
        name, objective, {'network': task.fresh_networks()}, start=chosen(task),
        optimizer=optax.sgd(rate, momentum=0.5), passes=passes(task, real=1, synthetic=3),
        settings={'power': power, 'embedding': embedding, 'rate': rate},
    ))  # fmt: skip


def maps_before_the_last(model: Model, example: jax.ShapeDtypeStruct) -> tuple[str, ...]:
    """The taps `block1`, `stage1` and so on of a network, but for the last. Raises UserError where there are none."""
    key = jax.random.key(0)

    def taps():
        images = jax.numpy.zeros(example.shape, example.dtype)
        return model.apply(model.init(key, example), images, key=key, train=False)[0].taps

    maps = [n for n, tap in jax.eval_shape(taps).items() if tap.ndim == 4 and n.startswith(('block', 'stage'))]
    if len(maps) < 2:
        raise UserError(
            f"'{model.name}' has no two feature maps whose attention could be matched: match through a ConvNet or a "
            'ResNet (student=convnet-16)'
        )
    return tuple(sorted(maps)[:-1])
