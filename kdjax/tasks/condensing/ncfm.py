"""NCFM: characteristic functions of features are matched, on networks between their start and their end."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax.algorithms.condensation import frequencies, matching
from kdjax.algorithms.condensation.mosaics import decoded, repeated_labels
from kdjax.algorithms.condensation.pretrained import between, calibration
from kdjax.algorithms.condensation.sets import by_part, within
from kdjax.models.frequency_sampler import frequency_sampler
from kdjax.objectives import Objective, Part, learned, term
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.experts import pretrained
from kdjax.tasks.condensing.matched import augmentation, passes
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.selected import chosen
from kdjax.tasks.task import Bound

SCALE = 300.0
"""Of the distance in the released code, beside a weight of 1 for the calibration."""

SAMPLER = 'sampler'


def ncfm(
    task: CondensedImages,
    *,
    learned_frequencies: bool = False,
    calibrated: bool = True,
    means: bool = False,
    frequencies_drawn: int = 256,
    networks: int = 10,
    epochs: int = 20,
    rate: float | int = 0.01,
    factor: int = 1,
    name: str = 'ncfm',
) -> Made:
    """Characteristic functions at normal frequencies, or at learned ones, and labels that trained networks read.

    Args:
        learned_frequencies: a sampler scales the frequencies so that the distance grows, in the same step in which the
            set makes it smaller (the paper's min-max; off in every released configuration).
        calibrated: adds the cross-entropy of the trained network on the set.
        means: mean features in the place of characteristic functions: the baseline on the same networks.
        frequencies_drawn: 4096 in the code, for 2048 features. networks, epochs: of training beforehand; 20 and 60.
        rate: of AdamW with decay 5e-4 on pixels, which stay valid. The code halves it when the loss stands still; here
            it is constant. factor: of mosaics, 2 there.

    One step moves all classes, and matching and calibration together, where the code takes a step for each class and
    each of the two. Source: arXiv 2502.20653, equations 5-8; NCFM.py, Condenser.py.
    """
    beforehand = pretrained(task, count=networks, epochs=epochs)
    bound = {'network': Bound(between('pretrained'), {'pretrained': beforehand})}
    options: dict[str, Any] = {'model': task.matched(), 'augment': augmentation(task), 'factor': factor}
    if means:
        objective = term(_means, 'synthetic', 'batch.image', 'network', name='means', **options)
    else:
        bound['frequencies'] = Bound(frequencies.normal_frequencies(frequencies_drawn, _width(task)), {})
        objective = SCALE * _functions(learned_frequencies, options)
    if calibrated:
        objective = objective + term(
            _calibration, 'synthetic', 'synthetic.label', 'network.trained', name='calibration', **options
        )
    optimizer = by_part(
        image=within(optax.adamw(rate, weight_decay=5e-4), *_valid(task)), others=optax.sgd(1e-3, momentum=0.5)
    )
    made = task.condense(
        name, objective, bound, start=chosen(task, factor=factor), optimizer=optimizer,
        passes=passes(task, real=1, synthetic=factor**2 * (6 if calibrated else 3)),
        settings={
            'learned_frequencies': learned_frequencies, 'calibrated': calibrated, 'means': means, 'rate': rate,
            'frequencies_drawn': frequencies_drawn, 'factor': factor,
        },
    )  # fmt: skip
    return Made(made, factor=factor)


def _functions(learned_frequencies: bool, options: dict[str, Any]) -> Objective:
    where = 'synthetic', 'batch.image', 'network'
    if not learned_frequencies:
        return term(_characteristic, *where, 'frequencies', name='ncfm', **options)
    part = Part(SAMPLER, frequency_sampler, ('frequencies', 'frequencies.noise'))
    return learned(part) + term(_against, *where, SAMPLER, name='ncfm', **options)


def _characteristic(images, real, variables, at, *, key, factor, **options):
    return matching.characteristic_matching(decoded(images, factor), real, variables, at, key=key, **options)


def _against(images, real, variables, at, *, key, factor, **options):
    """The set descends, and the sampler, whose gradient has the other sign, ascends."""
    return _characteristic(images, real, variables, matching.ascending(at), key=key, factor=factor, **options)


def _means(images, real, variables, *, key, factor, **options):
    return matching.mean_embedding(decoded(images, factor), real, variables, key=key, **options)


def _calibration(images, labels, variables, *, key, factor, **options):
    return calibration(decoded(images, factor), repeated_labels(labels, factor), variables, key=key, **options)


def _width(task: CondensedImages) -> int:
    model, example, key = task.matched(), task.example(), jax.random.key(0)
    said = functools.partial(model.apply, key=key, train=False)
    images = jnp.zeros(example.shape, example.dtype)
    return jax.eval_shape(lambda: said(model.init(key, example), images)[0]).taps['pooled'].shape[-1]


def _valid(task: CondensedImages) -> tuple[jax.Array, jax.Array]:
    """Black and white as networks see them, `[1, 1, 1, 1, channels]`."""
    mean, std = (jnp.asarray(v, jnp.float32).reshape(1, 1, 1, 1, -1) for v in (task.data.mean, task.data.std))
    return -mean / std, (1 - mean) / std
