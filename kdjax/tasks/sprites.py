"""Task `multi-view sprites`: scenes that a prior of views teaches, and that are measured from held-out cameras.

The prior is a diffusion model of images given class and view, trained once on rendered sprites. A student is a set of
scenes, several particles for every class, and sees no image: a row of its batch is a particle, a class and a camera.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax import losses, teachers
from kdjax.algorithms import Player, play
from kdjax.algorithms.players import Evaluates, Prepare
from kdjax.algorithms.scores import ScoreDistillation
from kdjax.data.augment import prepare
from kdjax.data.sprites import DISTANCE, ELEVATIONS, FIELD_OF_VIEW, Sprites, sprites
from kdjax.diffusion import Cosine, Denoiser, Guidance, Schedule, over, weights
from kdjax.errors import UserError
from kdjax.models.model import Model
from kdjax.models.named import named
from kdjax.models.named_denoiser import named_denoiser
from kdjax.objectives import hard_labels, term
from kdjax.renderers import named_renderer
from kdjax.stage import Train
from kdjax.streams import stream
from kdjax.tasks.scenes import costed_on, marginals, measure_scenes, scenes
from kdjax.tasks.score_arms import ScoreArms
from kdjax.tasks.task import Bound, Task, Trained, cost
from kdjax.view import View

PREDICTS = 'v'
DROPPED = 0.1
"""The share of conditions that the prior does not see in training."""


@dataclasses.dataclass(frozen=True)
class MultiViewSprites(ScoreArms, Task):
    """What every experiment on scenes can be told.

    student: a renderer, named as in `renderers.named_renderer`; teacher: the prior, as in `named_denoiser`; judge: the
    classifier that nobody trains on, as in `models.named`. particles: scenes of each class. scale: of the guidance.
    """

    reads: ClassVar[tuple[str, ...]] = ('batch.label', 'batch.particle', 'batch.azimuth', 'batch.elevation')

    student: str = 'voxels-12'
    teacher: str = 'dit-128-4-p4'
    judge: str = 'vit-48-3-p4'
    batch: int = 48
    steps: int = 400
    learning_rate: float = 3e-2
    weight_decay: float = 0.0
    teacher_steps: int = 2500
    teacher_batch: int = 64
    judge_steps: int = 600
    size: int = 16
    views: int = 4
    particles: int = 4
    examples: int = 4096
    evaluation_examples: int = 768
    scale: float = 7.5

    # What there is.

    @functools.cached_property
    def data(self) -> Sprites:
        return sprites(
            size=self.size, views=self.views, examples=self.examples, evaluation_examples=self.evaluation_examples
        )

    @property
    def schedule(self) -> Schedule:
        """Of the prior, which predicts v."""
        return Cosine()

    @property
    def conditions(self) -> int:
        """Pairs of class and view, numbered class * views + view; the null condition is this number."""
        return self.data.classes * self.views

    @property
    def null(self) -> int:
        return self.conditions

    def model(self, spec: str) -> Model:
        """Scenes of a renderer."""
        return scenes(
            named_renderer(spec, height=self.size, width=self.size), classes=self.data.classes, count=self.particles,
            distance=DISTANCE, field_of_view=FIELD_OF_VIEW,
        )  # fmt: skip

    def denoising_network(self, spec: str | None = None) -> Model:
        """The prior's network, or a fake score's: inputs `(x_t, t, condition)`."""
        return named_denoiser(spec or self.teacher, classes=self.conditions, shape=self.data.image_shape)

    def example(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        whole, real = (jax.ShapeDtypeStruct((1,), kind) for kind in (np.int32, np.float32))
        return whole, whole, real, real

    def denoising_example(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """The shapes of a denoising network's inputs for one example."""
        image = jax.ShapeDtypeStruct((1, *self.data.image_shape), np.float32)
        return image, jax.ShapeDtypeStruct((1,), np.float32), jax.ShapeDtypeStruct((1,), np.int32)

    def prepared(self) -> Prepare:
        return functools.partial(_scenes_and_cameras, self.data, self.particles)

    def denoiser(self, function: Callable[..., Any], guidance: Guidance | None = None) -> Denoiser:
        """What stands at an address such as `'teacher()'`, as a denoiser; guided if asked."""
        made = Denoiser(
            lambda x_t, t, condition: function((x_t, t, condition)).prediction,
            self.schedule, PREDICTS, classes=self.conditions, name='prior',
        )  # fmt: skip
        return made if guidance is None else made.guided(guidance, self.conditions)

    # Who teaches, who judges.

    @functools.cached_property
    def trained_teacher(self) -> Trained:
        model = self.denoising_network()
        stage = _Learning(
            self.teacher, self.size, self.views, self.examples, self.evaluation_examples, self.teacher_batch,
            self.teacher_steps, self.teacher_learning_rate,
        ).prior('prior', self.data, model, self.schedule, self.denoising_example())  # fmt: skip
        return Trained(model, stage['variables']['student'])

    def live_teacher(self, trained: Trained | None = None, *, name: str = 'teacher') -> Bound:
        trained = trained or self.trained_teacher
        teacher = teachers.live(trained.model, weights=name, reads=('batch.x_t', 'batch.t', 'batch.condition'))
        return Bound(teacher, {name: trained.variables}, (trained.model,))

    @functools.cached_property
    def trained_judge(self) -> Trained:
        """Class and view of an image, as one of `conditions`."""
        model = named(self.judge, classes=self.conditions, image_shape=self.data.image_shape)
        stage = _Learning(
            self.judge, self.size, self.views, self.examples, self.evaluation_examples, 64, self.judge_steps, 2e-3
        ).judge('judge', self.data, model)
        return Trained(model, stage['variables']['student'])

    def judges(self) -> Mapping[str, Bound]:
        """The judge of what scenes show, and the same of real images."""
        judge = self.trained_judge
        inputs = {'judge': judge.variables}
        read = {'judge': 'student', 'real_judge': 'batch.image'}
        return {n: Bound(teachers.live(judge.model, weights='judge', reads=a), inputs) for n, a in read.items()}

    def evaluated(self) -> Evaluates:
        return _evaluated

    def measure(self) -> Callable[..., dict[str, float]]:
        return functools.partial(_measure, views=self.views)

    def distilled(self, method: ScoreDistillation | None = None, *, calls: int = 2, **addresses: Any) -> Train:
        """An arm whose scenes follow a method, for its steps. calls: of the prior in a step, for the cost table."""
        method = method or self.method()
        player = dataclasses.replace(
            self.player(self.objective(method, **addresses), steps=method.steps), calls={'teacher': calls}
        )
        return self.play({'student': player}, {'teacher': self.live_teacher()}, steps=method.steps)

    def play(self, players: Mapping[str, Player], bound: Mapping[str, Bound] | None = None, **options: Any) -> Train:
        """As `Task.play`. Raises UserError on a batch that does not hold every scene equally often."""
        batch, every = options.get('batch') or self.batch, self.particles * self.data.classes
        if batch % every:
            raise UserError(
                f'a batch of {batch} views of {self.particles} particles of each of {self.data.classes} classes: '
                f'choose a multiple of {every}, so that every scene is seen equally often'
            )
        made = super().play(players, bound, **options)
        return dataclasses.replace(made, cost=costed_on(made.cost, self.denoising_example()))


@dataclasses.dataclass(frozen=True)
class _Learning:
    """All that the prior or the judge depends on, and nothing else: experiments that agree on it share them."""

    model: str
    size: int
    views: int
    examples: int
    evaluation_examples: int
    batch: int
    steps: int
    learning_rate: float

    def prior(self, name: str, source: Sprites, model: Model, schedule: Schedule, example: Any) -> Train:
        """Denoising: the mean squared error of v, at uniform times."""
        objective = term(losses.hint_mse, 'student', 'batch.target', name='denoising')
        reads = ('batch.x_t', 'batch.t', 'batch.condition')
        player = Player(model, objective, self._optimizer(), reads)
        algorithm = play({'student': player}, prepare=functools.partial(_noised, source, schedule), evaluates=_denoised)
        return self._stage(name, source, player, algorithm, _measure_prior, example)

    def judge(self, name: str, source: Sprites, model: Model) -> Train:
        """Cross-entropy over pairs of class and view."""
        player = Player(model, hard_labels(), self._optimizer())
        algorithm = play({'student': player}, prepare=functools.partial(_with_pairs, source), evaluates=_pairs)
        example = jax.ShapeDtypeStruct((1, *source.image_shape), np.float32)
        return self._stage(
            name, source, player, algorithm, functools.partial(_measure_judge, views=self.views), example
        )

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adamw(optax.cosine_decay_schedule(self.learning_rate, self.steps), weight_decay=1e-4)

    def _stage(self, name: str, source: Sprites, player: Player, algorithm: Any, measure: Any, example: Any) -> Train:
        return Train(
            name=name, module=__name__, config=dataclasses.asdict(self), shared=True, algorithm=algorithm, data=source,
            batch=self.batch, steps=self.steps, evaluate_every=self.steps, measure=measure,
            cost=functools.partial(cost, {'student': player}, {}, example, self.batch * self.steps),
        )  # fmt: skip


# From stored images to what a step reads; images are -1..1.


def _scenes_and_cameras(source: Sprites, count: int, batch: Mapping[str, Any], *, key: jax.Array, train: bool):
    """A particle, a class and a camera in every row, and an image of the data.

    In training each scene in turn from a random view, to which the image does not belong; else what the data hold.
    """
    image, rows = _scaled(batch['image']), len(batch['label'])
    if train:
        place = jnp.arange(rows, dtype=jnp.int32)
        names = ('view', 'shift', 'elevation')
        keys = {name: stream(key, name) for name in names}
        view = jax.random.randint(keys['view'], (rows,), 0, source.views, jnp.int32)
        shift = jax.random.uniform(keys['shift'], (rows,), minval=-1.0)
        batch = {
            'label': place // count % source.classes,
            'view': view,
            'azimuth': 2 * jnp.pi / source.views * (view.astype(jnp.float32) + 0.5 * source.spread * shift),
            'elevation': jax.random.uniform(keys['elevation'], (rows,), minval=ELEVATIONS[0], maxval=ELEVATIONS[1]),
            'particle': place % count,
            'index': batch['index'],
        }
    else:
        particle = batch['index'] // (source.classes * source.views) % count
        batch = {**batch, 'particle': particle}
    return {**batch, 'image': image, 'condition': _pair(source, batch)}


def _noised(source: Sprites, schedule: Schedule, batch: Mapping[str, Any], *, key: jax.Array, train: bool):
    """Noise, a time and the condition, which training drops now and then."""
    image, condition = _scaled(batch['image']), _pair(source, batch)
    t = jax.random.uniform(stream(key, 't'), condition.shape)
    noise = jax.random.normal(stream(key, 'noise'), image.shape)
    if train:
        dropped = jax.random.bernoulli(stream(key, 'drop'), DROPPED, condition.shape)
        condition = jnp.where(dropped, source.classes * source.views, condition)
    x_t = schedule.noised(image, noise, t)
    of = weights(PREDICTS, *schedule.levels(t))
    target = over(of.data, image) * image + over(of.noise, noise) * noise
    return {**batch, 'image': image, 'x_t': x_t, 't': t, 'condition': condition, 'target': target}


def _with_pairs(source: Sprites, batch: Mapping[str, Any], *, key: jax.Array, train: bool):
    del key, train
    return {**batch, 'image': _scaled(batch['image']), 'label': _pair(source, batch)}


def _scaled(image: jax.Array) -> jax.Array:
    return prepare(image, mean=(0.5,) * 3, std=(0.5,) * 3)


def _pair(source: Sprites, batch: Mapping[str, Any]) -> jax.Array:
    return batch['label'] * source.views + batch['view']


# What is kept of an evaluation, and what is measured on it.


def _evaluated(view: View) -> dict[str, jax.Array]:
    return {
        'picture': view['student'],
        'judged': view['judge'],
        'features': view['judge.pooled'],
        'real_judged': view['real_judge'],
        'real_features': view['real_judge.pooled'],
        'view': view['batch.view'],
        'particle': view['batch.particle'],
    }


def _denoised(view: View) -> dict[str, jax.Array]:
    return {'picture': view['student'], 'target': view['batch.target']}


def _pairs(view: View) -> dict[str, jax.Array]:
    return {'student': view['student'], 'view': view['batch.view']}


def _measure(said: Mapping[str, np.ndarray], reference: Any, *, views: int) -> dict[str, float]:
    del reference
    return measure_scenes(said, views=views)


def _measure_prior(said: Mapping[str, np.ndarray], reference: Any) -> dict[str, float]:
    """error: the mean squared error of v over images; base_error: that of always saying 0."""
    del reference
    return {
        'error': float(np.mean(np.square(said['picture'] - said['target']), dtype=np.float64)),
        'base_error': float(np.mean(np.square(said['target']), dtype=np.float64)),
    }


def _measure_judge(said: Mapping[str, np.ndarray], reference: Any, *, views: int) -> dict[str, float]:
    del reference
    by_class, by_view = marginals(said['student'], views)
    return {
        'accuracy': float(np.mean(by_class.argmax(-1) == said['label'])),
        'view_accuracy': float(np.mean(by_view.argmax(-1) == said['view'])),
    }
