"""Sets that lead networks along experts: MTT, FTD with flat experts, DATM with difficulty windows and learned labels.

Ours beside the authors': the rate of inner steps is learned as its logarithm, images are not whitened, no running mean
of pixels is kept, and experts are a few networks of the task's own student.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import optax

from kdjax.algorithms.condensation.experts import drawn_from
from kdjax.algorithms.condensation.sets import by_part
from kdjax.algorithms.condensation.trajectory import accumulated_error, trajectory_matching
from kdjax.objectives import term
from kdjax.stage import Compute, Output
from kdjax.streams import stream
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.experts import experts
from kdjax.tasks.condensing.matched import augmentation
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.selected import chosen
from kdjax.tasks.condensing.understood import understood
from kdjax.tasks.task import Bound

PASSES = 15
"""Forward passes for one image in an inner step: a gradient, the gradient of it, and twice the step computed again."""


@dataclasses.dataclass(frozen=True)
class Follow:
    """How a set is led along experts.

    steps: inner steps on the set, that are to be worth `ahead` epochs of an expert. first, last, begin, grows: which
    epochs these start from, as `algorithms.condensation.experts.window` has them. batch: images in an inner step; all
    of a smaller set. rate: of inner steps at first. image_rate, rate_rate: of SGD with momentum 0.5 on images and on
    the logarithm of the rate; label_rate: on logits of labels, with momentum 0.9. threshold: a distance above which an
    update does not count. augmented: whether inner steps see the Siamese augmentation. updates: of the set; the task's
    unless given. longest: to which gradients are clipped, of images, rate and labels each; the authors clip none.
    """

    steps: int
    ahead: int = 2
    last: int = 20
    first: int = 0
    begin: int | None = None
    grows: int = 1
    batch: int = 500
    rate: float = 0.01
    image_rate: float = 100.0
    rate_rate: float = 0.1
    label_rate: float = 2.0
    threshold: float | None = None
    augmented: bool = True
    updates: int | None = None
    longest: float | None = None

    @property
    def windows(self) -> dict[str, int]:
        begin = self.last if self.begin is None else self.begin
        return {'first': self.first, 'last': self.last, 'begin': begin, 'grows': self.grows}

    @property
    def epochs(self) -> int:
        """That experts need to have."""
        return self.last - 1 + self.ahead


MTT = {1: Follow(50, last=2, rate_rate=1e-3), 10: Follow(30, last=20), 50: Follow(30, last=40, image_rate=1000.0)}
"""From how many images of each class: the authors' for CIFAR-10. Their rate of the rate is for the rate itself, here
divided by its square at the start."""

DATM = {
    1: Follow(80, last=4, label_rate=5.0, rate_rate=1e-3, threshold=1.1),
    10: Follow(80, last=20, begin=10, grows=1000, threshold=1.0),
    50: Follow(80, last=40, begin=20, grows=2000, image_rate=1000.0, threshold=1.0),
}
"""Likewise; the authors' sets get 10,000 updates."""


def mtt(
    task: CondensedImages,
    *,
    follow: Follow | None = None,
    buffer: Output | None = None,
    mirrored: bool = False,
    name: str = 'mtt',
) -> Made:
    """MTT: from an expert's parameters, steps on the set end where the expert is some epochs later.

    buffer: of `experts`; trained for it unless given. mirrored: FYI, every inner minibatch has its mirror images.
    The set starts at random real images. Source: arXiv 2203.11932, algorithm 1, and its distill.py.
    """
    follow = follow or for_size(MTT, task.per_class)
    buffer = buffer or _experts(task, follow)
    start = chosen(task, rate=follow.rate)
    return Made(_followed(task, name, follow, buffer, start, mirrored=mirrored), rate=follow.rate)


def ftd(
    task: CondensedImages,
    *,
    follow: Follow | None = None,
    buffer: Output | None = None,
    radius: float = 0.01,
    weight: float = 0.3,
    name: str = 'ftd',
) -> Made:
    """FTD: MTT along flat experts, whose own steps take `flat_gradient` and so cost two gradients.

    radius, weight: the script's for CIFAR-10; without effect on a `buffer` that is given.
    Source: arXiv 2211.11004, equations 10-13, and its buffer_FTD.py and gsam.py.
    """
    follow = follow or for_size(MTT, task.per_class)
    buffer = buffer or _experts(task, follow, 'flat_', radius=radius, weight=weight)
    return mtt(task, follow=follow, buffer=buffer, name=name)


def datm(
    task: CondensedImages,
    *,
    follow: Follow | None = None,
    buffer: Output | None = None,
    soft_labels: bool = True,
    name: str = 'datm',
) -> Made:
    """DATM: starts from a window of epochs that grows, early ones for small sets, with labels that are learned too.

    The set starts at images that an expert classifies correctly, each with the mean logits of the experts that do.
    buffer: flat experts, as FTD's, unless given. Source: arXiv 2310.05773, sections 3.3 and 3.4, and its DATM.py.
    """
    follow = follow or for_size(DATM, task.per_class)
    buffer = buffer or _experts(task, follow, 'flat_', radius=0.01, weight=0.3)
    start = understood(task, buffer, soft_labels=soft_labels, rate=follow.rate)
    made = _followed(task, name, follow, buffer, start, soft_labels=soft_labels)
    return Made(made, soft_labels=soft_labels, rate=follow.rate)


def _experts(task: CondensedImages, follow: Follow, kind: str = '', **flat: Any) -> Output:
    batch = min(64, len(task.data['train']))
    return experts(task, epochs=follow.epochs, expert_batch=batch, name=f'{kind}experts_{follow.epochs}', **flat)


def for_size(table: Mapping[int, Follow], per_class: int) -> Follow:
    """What the table says of sets of this size: its largest entry that is no larger."""
    return table[max((size for size in table if size <= per_class), default=min(table))]


def _followed(
    task: CondensedImages,
    name: str,
    follow: Follow,
    buffer: Output,
    start: Output,
    *,
    soft_labels: bool = False,
    mirrored: bool = False,
) -> Output:
    batch = min(follow.batch, task.per_class * task.data.classes)
    objective = term(
        trajectory_matching, 'synthetic', 'synthetic.label', 'synthetic.rate', 'piece', model=task.matched(),
        steps=follow.steps, batch=batch, augment=augmentation(task) if follow.augmented else None, mirrored=mirrored,
        threshold=follow.threshold, name=name,
    )  # fmt: skip
    clipped = optax.identity() if follow.longest is None else optax.clip_by_global_norm(follow.longest)
    optimizer = by_part(
        image=optax.chain(clipped, optax.sgd(follow.image_rate, momentum=0.5)),
        log_rate=optax.chain(clipped, optax.sgd(follow.rate_rate, momentum=0.5)),
        label_logits=optax.chain(clipped, optax.sgd(follow.label_rate, momentum=0.9)),
    )
    piece = Bound(drawn_from('experts', ahead=follow.ahead, **follow.windows), {'experts': buffer})
    return task.condense(
        name, objective, {'piece': piece}, start=start, soft_labels=soft_labels, rate=follow.rate, optimizer=optimizer,
        settings={**dataclasses.asdict(follow), 'mirrored': mirrored},
        passes=PASSES * follow.steps * batch * (2 if mirrored else 1), steps=follow.updates,
    )  # fmt: skip


def accumulated(task: CondensedImages, made: Made, buffer: Output, follow: Follow, *, name: str) -> Output:
    """The mean over experts and pieces of `accumulated_error` of a set, a number: a fact of its arm.

    name: of the arm; the stage is called after it.
    """
    batch = min(follow.batch, task.per_class * task.data.classes)
    call = functools.partial(
        _accumulated, task.set_model(**made.learned), task.matched(), {'steps': follow.steps, 'ahead': follow.ahead,
        'batch': batch, 'augment': augmentation(task) if follow.augmented else None},
    )  # fmt: skip
    stage = Compute(
        name=f'accumulated_{name}', module=__name__, config=dataclasses.asdict(follow),
        inputs={'set': made.set, 'experts': buffer}, call=call,
    )  # fmt: skip
    return Output(stage, ('error',))


def _accumulated(set_model, model, options, inputs, *, key: jax.Array) -> dict[str, jax.Array]:
    @jax.jit
    def mean(variables, buffer):
        said = set_model.apply(variables, None, key=key, train=False)[0]
        labels, rate = said.taps['label'], said.taps['rate']

        def along(given: Any) -> jax.Array:
            way, draw = given
            return accumulated_error(said.prediction, labels, rate, way, model=model, key=draw, **options)

        count = len(jax.tree.leaves(buffer)[0])
        return jax.lax.map(along, (buffer, jax.random.split(stream(key, 'ways'), count))).mean()

    return {'error': mean(inputs['set'], inputs['experts'])}
