"""Squeeze and recover: a network with batch norms learns all images, and a set is drawn out of it (SRe2L, CDA).

The third step, relabelling, is `CondensedImages.measured`: one student learns what a teacher says of every crop.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax.algorithms.condensation.recovery import Remembered, convnet_norms, curriculum, recovery
from kdjax.algorithms.condensation.sets import flat, within
from kdjax.errors import UserError
from kdjax.models.convnet import suiting_depth
from kdjax.models.model import Model, Outputs, Variables
from kdjax.objectives import term
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.task import Bound
from kdjax.teachers.teacher import Teacher


@dataclasses.dataclass(frozen=True)
class Recover:
    """How images are recovered.

    rate: of Adam, betas 0.5 and 0.9, that falls as a cosine. weight: of the statistics beside the cross-entropy;
    first: of those of the first norm among them. least: the least share of the area that a crop keeps; curriculum,
    milestone: how it gets there, see `algorithms.condensation.recovery.curriculum`. steps: the task's unless given.
    """

    rate: float = 0.25
    weight: float = 0.01
    first: float = 10.0
    least: float = 0.08
    curriculum: str = 'constant'
    milestone: float = 1.0
    steps: int | None = None


LARGE = 32
"""Pixels of a side of images that keep their class in crops of a twelfth of their area."""


def suiting(task: CondensedImages, **changes: Any) -> Recover:
    """The authors' settings for images as large as theirs; for smaller ones larger crops and more of the statistics."""
    small = {} if min(task.data.image_shape[:2]) >= LARGE else {'least': 0.5, 'weight': 0.1}
    return Recover(**{**small, **changes})


def sre2l(
    task: CondensedImages, *, recover: Recover | None = None, squeezed: str | None = None, name: str = 'sre2l'
) -> Made:
    """SRe2L: noise becomes images that the network classifies and whose statistics its batch norms remember.

    All images of the set are one batch for the statistics, where the authors' batches are one image for each of 100
    classes; no random rolls. recover: `suiting` unless given. squeezed: a ConvNet's specification, trained with batch
    norm; of width 32 unless given.
    Source: arXiv 2306.13092, section 3, and its recover_cifar.py (1000 updates).
    """
    recover, squeezed = recover or suiting(task), squeezed or 'convnet-32'
    kind, *sizes = squeezed.split('-')
    if kind != 'convnet':
        raise UserError(f"'{squeezed}' cannot be recovered from: name a ConvNet, whose norms are known, convnet-32-3")
    trained = task.train_teacher('squeezed', squeezed, norm='batch')
    blocks = int(sizes[1]) if len(sizes) > 1 else suiting_depth(task.data.image_shape)
    steps = recover.steps or task.set_steps
    objective = term(
        recovered, 'synthetic', 'squeezed', model=trained.model, norms=convnet_norms(blocks),
        recover=dataclasses.replace(recover, steps=steps), flip=task.data.flip_ok, name=name,
    )  # fmt: skip
    mean, std = (jnp.asarray(v, jnp.float32)[None, None, None, None] for v in (task.data.mean, task.data.std))
    adam = optax.adam(optax.cosine_decay_schedule(recover.rate, steps), b1=0.5, b2=0.9)
    network = Bound(Teacher(_read), {'squeezed': trained.variables})
    return Made(task.condense(
        name, objective, {'squeezed': network}, optimizer=within(adam, -mean / std, (1 - mean) / std), steps=steps,
        settings={**dataclasses.asdict(recover), 'squeezed': squeezed},
        passes=2 * task.per_class * task.data.classes,
    ))  # fmt: skip


def cda(
    task: CondensedImages,
    *,
    recover: Recover | None = None,
    squeezed: str | None = None,
    name: str = 'cda',
) -> Made:
    """CDA: SRe2L under crops that begin as the whole image and shrink.

    Source: arXiv 2311.18838, section 3.2, and its recover_cda_tiny.py with milestone 1.
    """
    return sre2l(task, recover=recover or suiting(task, curriculum='cosine'), squeezed=squeezed, name=name)


def recovered(
    images: jax.Array,
    variables: Variables,
    *,
    model: Model,
    norms: Remembered,
    recover: Recover,
    flip: bool,
    key: jax.Array,
    step: jax.Array,
) -> jax.Array:
    """`recovery` of a whole set `[per_class, classes, *image]` at a step, `[per_class * classes]`."""
    per_class, classes = images.shape[:2]
    labels = jnp.broadcast_to(jnp.arange(classes, dtype=jnp.int32)[None], (per_class, classes))
    seen, said = flat(images, labels)
    least = curriculum(
        step, steps=recover.steps or 1, least=recover.least, milestone=recover.milestone, kind=recover.curriculum
    )
    return recovery(
        seen, said, variables, model=model, norms=norms, key=key, weight=recover.weight, first=recover.first,
        crop=least, flip=flip,
    )  # fmt: skip


def _read(memory, frozen, view, *, key: jax.Array) -> Outputs:
    """The network as its variables."""
    del memory, view, key
    return Outputs(frozen['squeezed'])
