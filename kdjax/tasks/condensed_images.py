"""Task `condensed images`: small sets are made from real images, and networks that learn from them are measured.

    {'random': task.measured(random(task)), 'dm': task.measured(dm(task)), 'rs2': task.on_real_images()}

Methods are in `kdjax.tasks.condensing`, by name in `condensing.methods.METHODS`. Sets of several sizes in one
experiment come from one task, `task.at(1)` and `task.at(10)`, so that they share data, teachers and experts.

Every arm is measured by one recipe: students of several architectures learn from the set by hard labels, and one by
a teacher's soft labels, as many steps each, the last iterate counts. Metrics of the student with hard labels have
their own names, the others' begin with `soft/` and with the architecture (`mlp/accuracy`, `mlp_soft/accuracy`).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax import losses, teachers
from kdjax.algorithms import Player, play
from kdjax.algorithms.condensation.learning import learned_from
from kdjax.algorithms.condensation.networks import fresh
from kdjax.algorithms.condensation.sets import by_part, synthetic_set
from kdjax.data import selection
from kdjax.data.augment import augment, prepare
from kdjax.data.condensed import by_class
from kdjax.data.dataset import ImageDataset
from kdjax.errors import UserError
from kdjax.models.count import forward_flops
from kdjax.models.model import Model
from kdjax.models.named import named
from kdjax.objectives import Objective, kl, term
from kdjax.stage import Compute, Output, Stage, Train
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.small_images import SmallImages
from kdjax.tasks.task import Bound, Trained

S = TypeVar('S', bound=Stage)
T = TypeVar('T', bound='CondensedImages')

USUAL = 'usual'
USUAL_NORMS = {'convnet': 'instance', 'mlp': 'none'}
"""By the first word of a specification; 'group' otherwise. None of them keeps statistics of batches: sets are small."""

SHARED = ('data', 'by_class', 'stages')
"""What a task has in common with itself at another size of sets."""


@dataclasses.dataclass(frozen=True)
class CondensedImages(SmallImages):
    """What every experiment on condensed sets can be told.

    per_class: images of the set for each class. set_steps, set_rate: updates of a set and their rate (Adam on pixels).
    real_batch: real images of each class in an update.
    student: what measures, and what sets are matched through; transfer: further architectures that measure, by hard
    labels, and with soft_transfer by the teacher's too. A ConvNet has as many blocks as suit the images.
    steps, batch, learning_rate: of every network that measures, whatever it learns from; the teacher's have their own
    names and are as many. norm: 'usual' is that of `USUAL_NORMS`, or one for all.
    """

    norm: str = USUAL
    student: str = 'convnet-16'
    teacher: str = 'convnet-32'
    transfer: tuple[str, ...] = ('mlp-64', 'resnet8', 'vit-32-2')
    soft_transfer: bool = False
    per_class: int = 10
    set_steps: int = 500
    set_rate: float = 0.05
    real_batch: int = 32
    batch: int = 64
    steps: int = 900
    learning_rate: float = 3e-3
    teacher_steps: int = 900
    teacher_learning_rate: float = 3e-3
    evaluations: int = 2
    crop_padding: int = 1

    # One task, several sizes of sets.

    def at(self: T, per_class: int) -> T:
        """The same task with sets of so many images of each class: in one experiment both share all other stages."""
        other = dataclasses.replace(self, per_class=per_class)
        other.share(self)
        return other

    def share(self, other: CondensedImages) -> None:
        """Take data, teachers and stages from a task that has the same ones."""
        vars(self).update({name: getattr(other, name) for name in SHARED})

    @functools.cached_property
    def stages(self) -> dict[Any, Stage]:
        """What `once` has seen."""
        return {}

    def once(self, stage: S) -> S:
        """The stage, or the equal one that was made before: two that build it separately then read one stage."""
        inputs = tuple(sorted((name, id(read.stage), read.path) for name, read in stage.inputs.items()))
        config = json.dumps(dict(stage.config), sort_keys=True)
        return self.stages.setdefault((stage.name, stage.module, config, inputs), stage)  # type: ignore[return-value]

    # Models.

    def norm_of(self, spec: str) -> str:
        return USUAL_NORMS.get(spec.partition('-')[0], 'group') if self.norm == USUAL else self.norm

    def model(self, spec: str) -> Model:
        data = self.data
        return named(spec, classes=data.classes, image_shape=data.image_shape, norm=self.norm_of(spec))

    def train_teacher(self, name: str, spec: str, *, norm: str | None = None) -> Trained:
        """As for every task of small images, with the norm of its architecture (or `norm`: 'batch' to be recovered)."""
        own = dataclasses.replace(self, norm=norm or self.norm_of(spec))
        made = SmallImages.train_teacher(own, name, spec)
        return Trained(made.model, Output(self.once(made.variables.stage), made.variables.path))

    def predictions(self, name: str, trained: Trained) -> Output:
        """As for every task of small images, once for all sizes of sets."""
        return Output(self.once(SmallImages.predictions(self, name, trained).stage))

    def matched(self) -> Model:
        """The network that sets are matched through."""
        return self.model(self.student)

    def fresh_networks(self) -> Bound:
        """A new one at every step, read as its variables."""
        return Bound(fresh(self.matched(), axes=2), {})

    # Sets.

    @functools.cached_property
    def by_class(self) -> ImageDataset:
        """The training images, one of every class in a row."""
        return by_class(self.data)

    def set_model(self, *, per_class: int | None = None, soft_labels: bool = False, rate: float | None = None) -> Model:
        return synthetic_set(
            self.data.image_shape, classes=self.data.classes, per_class=per_class or self.per_class,
            soft_labels=soft_labels, rate=rate,
        )  # fmt: skip

    def check_classes(self, per_class: int) -> None:
        """Raises UserError where a class has fewer training images than that, or none."""
        train = self.data['train']
        selection.members(train.take(np.arange(len(train)))['label'], self.data.classes, per_class)

    def condense(
        self,
        name: str,
        objective: Objective,
        bound: Mapping[str, Bound] | None = None,
        *,
        start: Output | None = None,
        passes: float | int = 0.0,
        soft_labels: bool = False,
        rate: float | None = None,
        optimizer: optax.GradientTransformation | None = None,
        inputs: Mapping[str, Output] | None = None,
        settings: Mapping[str, Any] | None = None,
        steps: int | None = None,
        **options: Any,
    ) -> Output:
        """A stage that learns a set: the player `synthetic`, and a batch of `real_batch` images of every class.

        The batch holds `image` `[real_batch, classes, H, W, C]` as networks see them, and `label`. The stage is called
        by the name and the size of the set. start: variables of the set to begin with; noise otherwise. passes:
        forward passes of the student in a step, over real and synthetic images, a gradient counted as two more: for
        the cost. settings: JSON; what the method was told beyond the task, for the identity. steps: in the place of
        `set_steps`. options: of `play`.
        """
        bound, inputs, steps = dict(bound or {}), dict(inputs or {}), steps or self.set_steps
        optimizer = optimizer or by_part(image=optax.adam(self.set_rate), others=optax.adam(1e-3))
        player = Player(
            self.set_model(soft_labels=soft_labels, rate=rate), objective, optimizer, start='start' if start else None
        )
        algorithm = play(
            {'synthetic': player}, teachers={n: b.teacher for n, b in bound.items()}, prepare=self._prepare_rows,
            evaluates=(), **options,
        )  # fmt: skip
        if start is not None:
            inputs['start'] = start
        for b in bound.values():
            inputs |= b.inputs
        stage = Train(
            name=f'{name}_{self.per_class}', module=type(self).__module__,
            config={**dataclasses.asdict(self), **({'method': dict(settings)} if settings else {})}, inputs=inputs,
            algorithm=algorithm, data=self.by_class, batch=self.real_batch, steps=steps, evaluate_every=steps,
            measure=_unmeasured, cost=functools.partial(_set_cost, self.matched(), self.example(), steps * passes),
        )  # fmt: skip
        return stage['variables']['synthetic']

    def _prepare_rows(self, batch: Mapping[str, Any], *, key: jax.Array, train: bool) -> dict[str, Any]:
        del key, train
        image = jnp.asarray(batch['image'])
        flat = prepare(image.reshape(-1, *image.shape[2:]), mean=self.data.mean, std=self.data.std)
        return {**batch, 'image': flat.reshape(image.shape)}

    # What is measured.

    def measured(self, made: Made, *, name: str = 'arm') -> Train:
        """Students that learn from a set, by hard labels and by the task's teacher's, and further architectures.

        A set with labels of its own has one more student, `own`, that learns from those. `stored_bytes` is among the
        metrics: images in float32, labels included.
        """
        model = self.set_model(**made.learned)
        source = learned_from(
            model, name='set', batch=self.batch, augment=self.shifted if self.crop_padding else None, factor=made.factor
        )
        players = self._students('set', 'set.label')
        if made.soft_labels:
            players['own'] = self._student(self.student, term(losses.cross_entropy, 'own', 'set.soft'), 'own', 'set')
        arm = self._play_students(players, {'set': Bound(source, {'set': made.set})}, 'set', name)
        return dataclasses.replace(arm, facts={'stored_bytes': self._stored_bytes(made)})

    def _stored_bytes(self, made: Made) -> Output:
        classes = self.data.classes
        numbers = math.prod(self.data.image_shape) + 1 + (classes if made.soft_labels else 0)
        size = 4 * self.per_class * classes * numbers
        stage = Compute(
            name=f'stored_{size}', module=__name__, config={'bytes': size}, shared=True,
            call=functools.partial(_number, size),
        )  # fmt: skip
        return self.once(stage)['bytes']

    def on_real_images(self, *, batch: int | None = None, name: str = 'arm') -> Train:
        """The same students on fresh minibatches of all real images: RS2 without replacement, at equal steps.

        RS2's rounds are consecutive parts of a permutation, so this is it for every size of round. It is matched in
        compute, not in storage. batch: in the place of the task's. Source: RS2, arXiv 2305.18424.
        """
        return self._play_students(self._students('batch.image', 'batch.label'), {}, 'batch.image', name, batch=batch)

    def learning_from(self, source: Bound, *, name: str = 'arm') -> Train:
        """The same students on the minibatches of a teacher: its prediction images, its tap `label` class ids."""
        return self._play_students(self._students('set', 'set.label'), {'set': source}, 'set', name)

    def _students(self, reads: str, labels: str) -> dict[str, Player]:
        named_ = {'student': self.student, **{spec.partition('-')[0]: spec for spec in self.transfer}}
        if len(named_) <= len(self.transfer):
            raise UserError(f"transfer={self.transfer}: architectures need different first words, none 'student'")
        players = {n: self._student(s, term(losses.cross_entropy, n, labels), n, reads) for n, s in named_.items()}
        soft = {'soft': self.student}
        if self.soft_transfer:
            soft |= {f'{n}_soft': spec for n, spec in named_.items() if n != 'student'}
        return players | {n: self._student(s, kl(n, 'judge'), n, reads) for n, s in soft.items()}

    def _student(self, spec: str, objective: Objective, name: str, reads: str) -> Player:
        calls = {} if reads.startswith('batch.') else {name: 3.0}
        return Player(self.model(spec), objective, self.optimizer(), reads=(reads,), calls=calls)

    def _play_students(
        self, players: dict[str, Player], bound: Mapping[str, Bound], reads: str, name: str, batch: int | None = None
    ) -> Train:
        trained = self.trained_teacher
        judge = teachers.live(trained.model, weights='judge', reads=reads)
        judged = {**bound, 'judge': Bound(judge, {'judge': trained.variables}, (trained.model,))}
        return self.play(players, judged, batch=batch, name=name, evaluates=functools.partial(_answers, tuple(players)))

    def shifted(self, images: jax.Array, *, key: jax.Array) -> jax.Array:
        """A random shift of images as networks see them, each its own; black comes in. A mirror where labels allow."""
        black = -jnp.asarray(self.data.mean, jnp.float32) / jnp.asarray(self.data.std, jnp.float32)
        black = black[None, None, None, :]
        return augment(images - black, key=key, flip=self.data.flip_ok, padding=self.crop_padding) + black


def _number(value: int, inputs: Any, *, key: jax.Array) -> dict[str, jax.Array]:
    del inputs, key
    return {'bytes': jnp.asarray(value, jnp.float32)}


def _answers(names: tuple[str, ...], view: Any) -> dict[str, jax.Array]:
    return {name: view[f'{name}()'](view['batch.image']).prediction for name in names}


def _unmeasured(said: Mapping[str, np.ndarray], reference: Any) -> dict[str, float]:
    """Nothing is said of a set until networks have learned from it."""
    del said, reference
    return {}


def _set_cost(model: Model, example: Any, passes: float | int) -> dict[str, float]:
    each = forward_flops(model, example)
    zeros = dict.fromkeys(('parameters', 'teacher_flops', 'teacher_queries', 'cache_bytes'), 0.0)
    return {**zeros, 'forward_flops': each, 'student_flops': each * passes}
