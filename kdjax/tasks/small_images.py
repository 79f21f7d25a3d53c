"""Task `small images`: a data set, a teacher trained once, students, and what is measured on them.

An experiment's config extends `SmallImages`; its arms are made with `arm` (one student) or `play` (several players):

    {'labels': task.arm(hard_labels()), 'kd': task.arm(hard_labels() + 9.0 * kl(temperature=4.0),
    task.cached_teacher())}
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import numpy as np
import optax

from kdjax import data, teachers
from kdjax.algorithms import Player, play
from kdjax.algorithms.players import Prepare
from kdjax.data.augment import augment, prepare
from kdjax.data.batches import evaluation_batches
from kdjax.data.dataset import ImageDataset
from kdjax.errors import UserError
from kdjax.metrics import classification
from kdjax.models.model import Model, Variables
from kdjax.models.named import named
from kdjax.objectives import hard_labels
from kdjax.stage import Compute, Output, Train
from kdjax.streams import stream
from kdjax.tasks.task import Bound, Task, Trained, cost


@dataclasses.dataclass(frozen=True)
class SmallImages(Task):
    """What every experiment on small images can be told. Models are named as in `kdjax.models.named`."""

    reads: ClassVar[tuple[str, ...]] = ('batch.image',)

    dataset: str = 'digits'
    train_examples: int | None = None
    student: str = 'mlp-32'
    teacher: str = 'mlp-512-512'
    norm: str = 'batch'
    crop_padding: int = 0
    teacher_examples: int | None = None
    teacher_crop_padding: int = 1

    # What there is.

    @functools.cached_property
    def data(self) -> ImageDataset:
        """The student's data set; the teacher may have learned from more of the training split."""
        return data.load(self.dataset, train_examples=self.train_examples)

    def model(self, spec: str) -> Model:
        """A model for this data set, by name."""
        return named(spec, classes=self.data.classes, image_shape=self.data.image_shape, norm=self.norm)

    def example(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *self.data.image_shape), np.float32)

    def prepared(self) -> Prepare:
        return self.prepare(self.crop_padding)

    def measure(self) -> Callable[..., dict[str, float]]:
        return measure

    def reference(self) -> Output:
        """The task's teacher's predictions."""
        return self.teacher_predictions

    # Teachers.

    @functools.cached_property
    def trained_teacher(self) -> Trained:
        """The task's teacher: trained on labels once, shared by every experiment with the same settings."""
        return self.train_teacher('teacher', self.teacher)

    def train_teacher(self, name: str, spec: str) -> Trained:
        """A model trained on the labels of the teacher's training split, one for all seeds of a verification."""
        config = _Teaching(
            self.dataset, self.teacher_examples, spec, self.norm, self.batch, self.teacher_steps,
            self.teacher_learning_rate, self.weight_decay, self.teacher_crop_padding,
        )  # fmt: skip
        model = self.model(spec)
        return Trained(model, config.stage(name, model)['variables']['student'])

    @functools.cached_property
    def teacher_predictions(self) -> Output:
        """The teacher's logits on the student's data, by split: the reference of metrics, and the cache."""
        return self.predictions('teacher_predictions', self.trained_teacher)

    def predictions(self, name: str, trained: Trained) -> Output:
        """Logits of a trained model on every split of the student's data, without augmentation."""
        call = functools.partial(_predict_splits, trained.model, self.data)
        config = {'model': trained.model.name, 'dataset': self.dataset, 'train_examples': self.train_examples}
        stage = Compute(
            name=name, module=__name__, config=config, inputs={'model': trained.variables}, shared=True,
            call=call, data=self.data, shapes=functools.partial(_prediction_shapes, self.data),
        )  # fmt: skip
        return Output(stage)

    def ensemble(self, members: Mapping[str, Trained]) -> Bound:
        """Several trained models as one teacher."""
        models = {name: trained.model for name, trained in members.items()}
        inputs = {name: trained.variables for name, trained in members.items()}
        return Bound(teachers.ensemble(models), inputs, tuple(models.values()))

    def cached_teacher(self) -> Bound:
        """The stored logits of the task's teacher on plain images: for students that train without augmentation."""
        if self.crop_padding:
            raise UserError(
                f'a cached teacher saw plain images, but crop_padding={self.crop_padding}: set it to 0, '
                'or use live_teacher()'
            )
        size = len(self.data['train']) * self.data.classes * 4
        return Bound(teachers.cached('teacher'), {'teacher': self.teacher_predictions['train']}, cache_bytes=size)

    def prepare(self, crop_padding: int) -> Prepare:
        """Normalisation; in training also a random crop (and a mirror where labels allow) if `crop_padding` asks."""
        return _prepare(self.data, crop_padding)


@dataclasses.dataclass(frozen=True)
class _Teaching:
    """All that a teacher depends on, and nothing else: experiments that agree on it share the teacher."""

    dataset: str
    train_examples: int | None
    model: str
    norm: str
    batch: int
    steps: int
    learning_rate: float
    weight_decay: float
    crop_padding: int

    def stage(self, name: str, model: Model) -> Train:
        source = data.load(self.dataset, train_examples=self.train_examples)
        schedule = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        example = jax.ShapeDtypeStruct((1, *source.image_shape), np.float32)
        player = Player(model, hard_labels(), optax.adamw(schedule, weight_decay=self.weight_decay))
        return Train(
            name=name, module=__name__, config=dataclasses.asdict(self), shared=True,
            algorithm=play({'student': player}, prepare=_prepare(source, self.crop_padding)),
            data=source, batch=self.batch, steps=self.steps, evaluate_every=self.steps, measure=measure,
            cost=functools.partial(cost, {'student': player}, {}, example, self.batch * self.steps),
        )  # fmt: skip


def measure(said: Mapping[str, np.ndarray], reference: np.ndarray | None) -> dict[str, float]:
    """Metrics of the student's logits; of every other prediction under its own name (`peer/accuracy`)."""
    labels = said['label']
    metrics = classification(said['student'], labels, reference)
    for name, logits in said.items():
        if name not in ('student', 'label'):
            metrics |= {f'{name}/{m}': v for m, v in classification(logits, labels, reference).items()}
    return metrics


def _prepare(source: ImageDataset, crop_padding: int) -> Prepare:
    def run(batch: Mapping[str, Any], *, key: jax.Array, train: bool) -> dict[str, Any]:
        image = batch['image']
        if train and crop_padding:
            image = augment(image, key=stream(key, 'augment'), flip=source.flip_ok, padding=crop_padding)
        return {**batch, 'image': prepare(image, mean=source.mean, std=source.std)}

    return run


def _predict_splits(model: Model, source: ImageDataset, inputs: Mapping[str, Variables], *, key: jax.Array):
    run = _prepare(source, 0)

    @jax.jit
    def logits(variables, batch):
        images = run(batch, key=key, train=False)['image']
        return model.apply(variables, images, key=key, train=False)[0].prediction

    def split(name: str) -> np.ndarray:
        kept = []
        for batch in evaluation_batches(source[name], 256):
            where = batch.pop('where')
            kept.append(np.asarray(logits(inputs['model'], batch))[where])
        return np.concatenate(kept)

    return {name: split(name) for name in source.splits}


def _prediction_shapes(source: ImageDataset, inputs: Mapping[str, Variables]) -> dict[str, jax.ShapeDtypeStruct]:
    return {n: jax.ShapeDtypeStruct((len(source[n]), source.classes), np.float32) for n in source.splits}
