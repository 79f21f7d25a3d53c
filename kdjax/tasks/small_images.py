"""Task `small images`: a data set, a teacher trained once, students, and what is measured on them.

An experiment's config extends `SmallImages`; its arms are made with `arm` (one student) or `play` (several players):

    {'labels': task.arm(hard_labels()), 'kd': task.arm(hard_labels() + 9.0 * kl(temperature=4.0),
    task.cached_teacher())}
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

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
from kdjax.models.count import forward_flops, parameters
from kdjax.models.model import Model, Variables
from kdjax.models.named import named
from kdjax.objectives import Objective, hard_labels
from kdjax.stage import Compute, Output, Train
from kdjax.streams import stream
from kdjax.teachers import Teacher


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model and the stage output that holds its variables."""

    model: Model
    variables: Output


@dataclasses.dataclass(frozen=True)
class Bound:
    """A teacher with what it reads of other stages, and what it costs."""

    teacher: Teacher
    inputs: Mapping[str, Output]
    models: tuple[Model, ...] = ()
    cache_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class SmallImages:
    """What every experiment on small images can be told. Models are named as in `kdjax.models.named`."""

    dataset: str = 'digits'
    train_examples: int | None = None
    student: str = 'mlp-32'
    teacher: str = 'mlp-512-512'
    norm: str = 'batch'
    batch: int = 64
    steps: int = 500
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    crop_padding: int = 0
    teacher_examples: int | None = None
    teacher_steps: int = 500
    teacher_learning_rate: float = 2e-3
    teacher_crop_padding: int = 1
    evaluations: int = 10

    # What there is.

    @functools.cached_property
    def data(self) -> ImageDataset:
        """The student's data set; the teacher may have learned from more of the training split."""
        return data.load(self.dataset, train_examples=self.train_examples)

    def model(self, spec: str) -> Model:
        """A model for this data set, by name."""
        return named(spec, classes=self.data.classes, image_shape=self.data.image_shape, norm=self.norm)

    def optimizer(self, steps: int | None = None, learning_rate: float | None = None) -> optax.GradientTransformation:
        """AdamW with a cosine schedule to zero, the same for every arm."""
        schedule = optax.cosine_decay_schedule(learning_rate or self.learning_rate, steps or self.steps)
        return optax.adamw(schedule, weight_decay=self.weight_decay)

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

    def live_teacher(self, trained: Trained | None = None, *, name: str = 'teacher') -> Bound:
        """A trained model applied to every augmented batch; the task's teacher unless another is given."""
        trained = trained or self.trained_teacher
        return Bound(teachers.live(trained.model, weights=name), {name: trained.variables}, (trained.model,))

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

    # Arms.

    def arm(
        self,
        objective: Objective,
        teacher: Bound | None = None,
        *,
        model: str | None = None,
        steps: int | None = None,
        start: Output | None = None,
        name: str = 'arm',
        reference: Output | None = None,
    ) -> Train:
        """One student that minimises one objective. `start`: variables to begin from. See `play` for the rest."""
        player = self.player(objective, model=model, steps=steps, start='start' if start else None)
        return self.play(
            {'student': player},
            {'teacher': teacher} if teacher else {},
            steps=steps,
            inputs={'start': start} if start else {},
            name=name,
            reference=reference,
        )

    def player(
        self, objective: Objective, *, model: str | None = None, steps: int | None = None, start: str | None = None
    ) -> Player:
        """A learner with the task's optimizer; `start` names the input that holds its first variables."""
        return Player(self.model(model or self.student), objective, self.optimizer(steps), start=start)

    def play(
        self,
        players: Mapping[str, Player],
        bound: Mapping[str, Bound] | None = None,
        *,
        steps: int | None = None,
        inputs: Mapping[str, Output] | None = None,
        name: str = 'arm',
        evaluates: tuple[str, ...] | None = None,
        reference: Output | None = None,
    ) -> Train:
        """Any players and teachers on this task's data. The player `student` is measured, others under their name.

        name: of a stage that other stages read; the last stage of an arm gets the arm's. reference: predictions by
        split that agreement is measured with; the task's teacher's unless others are given.
        """
        bound = bound or {}
        steps = steps or self.steps
        algorithm = play(
            players,
            teachers={n: b.teacher for n, b in bound.items()},
            prepare=self.prepare(self.crop_padding),
            evaluates=evaluates,
        )
        read = dict(inputs or {})
        for b in bound.values():
            read |= b.inputs
        return Train(
            name=name, module=type(self).__module__, config=dataclasses.asdict(self), inputs=read, algorithm=algorithm,
            data=self.data, batch=self.batch, steps=steps, evaluate_every=max(1, steps // self.evaluations),
            measure=measure, reference=reference or self.teacher_predictions,
            cost=functools.partial(_cost, players, bound, self.data, self.batch, steps),
        )  # fmt: skip

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
        player = Player(model, hard_labels(), optax.adamw(schedule, weight_decay=self.weight_decay))
        return Train(
            name=name, module=__name__, config=dataclasses.asdict(self), shared=True,
            algorithm=play({'student': player}, prepare=_prepare(source, self.crop_padding)),
            data=source, batch=self.batch, steps=self.steps, evaluate_every=self.steps, measure=measure,
            cost=functools.partial(_cost, {'student': player}, {}, source, self.batch, self.steps),
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


def _cost(
    players: Mapping[str, Player], bound: Mapping[str, Bound], source: ImageDataset, batch: int, steps: int
) -> dict[str, float]:
    """FLOPs of the run: three forward passes for a training step (arXiv 2001.08361, sec. 2.1), one for a teacher's."""
    image = jax.ShapeDtypeStruct((1, *source.image_shape), np.float32)
    seen = batch * steps

    def forward(model: Model) -> float:
        return forward_flops(model, image)

    learners = [p.model for p in players.values() if all(a.startswith('batch.') for a in p.reads)]
    read = {a.partition('.')[0] for p in players.values() for a in (*p.reads, *p.objective.addresses)}
    asked = [model for name, b in bound.items() if name in read for model in b.models]
    return {
        'parameters': float(parameters(jax.eval_shape(players['student'].model.init, jax.random.key(0), image))),
        'forward_flops': forward(players['student'].model),
        'student_flops': 3.0 * seen * sum(map(forward, learners)),
        'teacher_flops': 1.0 * seen * sum(map(forward, asked)),
        'teacher_queries': float(seen * len(asked)),
        'cache_bytes': float(sum(b.cache_bytes for b in bound.values())),
    }
