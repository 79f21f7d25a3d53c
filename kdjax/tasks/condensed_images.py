"""Task `condensed images`: small sets are made from real images, and networks that learn from them are measured.

    start = task.chosen('random')
    made = task.condense('dm_set', term(mean_embedding, 'synthetic', 'batch.image', 'network', model=task.matched()),
                         {'network': task.fresh_networks()}, start=start)
    {'random': task.measured(start), 'dm': task.measured(made), 'rs2': task.on_real_images()}

Every arm is measured by one recipe: students of several architectures learn from the set by hard labels, and one by
a teacher's soft labels, as many steps each, the last iterate counts. Metrics of the student with hard labels have
their own names, the others' begin with `soft/` and with the architecture (`mlp/accuracy`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax import losses, teachers
from kdjax.algorithms import Player, play
from kdjax.algorithms.condensation.experts import expert
from kdjax.algorithms.condensation.learning import learned_from
from kdjax.algorithms.condensation.networks import fresh
from kdjax.algorithms.condensation.sets import by_part, started, synthetic_set
from kdjax.data import selection
from kdjax.data.augment import prepare, random_crop
from kdjax.data.condensed import by_class, factorised
from kdjax.data.dataset import ImageDataset
from kdjax.errors import UserError, unknown
from kdjax.models.count import forward_flops
from kdjax.models.model import Model
from kdjax.models.named import named
from kdjax.objectives import Objective, kl, term
from kdjax.stage import Compute, Output, Train
from kdjax.streams import stream
from kdjax.tasks.small_images import SmallImages
from kdjax.tasks.task import Bound, Trained

USUAL = 'usual'
USUAL_NORMS = {'convnet': 'instance', 'mlp': 'none'}
"""By the first word of a specification; 'group' otherwise. None of them keeps statistics of batches: sets are small."""

CHOOSERS = {'herding': selection.herding, 'k_center': selection.k_center, 'graph_cut': selection.graph_cut}
WAYS = ('random', 'k_means', *CHOOSERS)


@dataclasses.dataclass(frozen=True)
class CondensedImages(SmallImages):
    """What every experiment on condensed sets can be told.

    per_class: images of the set for each class. set_steps, set_rate: updates of a set and their rate (Adam on pixels).
    real_batch: real images of each class in an update.
    student: what measures, and what sets are matched through; transfer: further architectures that measure.
    steps, batch, learning_rate: of every network that measures, whatever it learns from. norm: 'usual' is that of
    `USUAL_NORMS`, or one for all.
    """

    norm: str = USUAL
    student: str = 'convnet-16-3'
    teacher: str = 'convnet-32-3'
    transfer: tuple[str, ...] = ('mlp-64', 'resnet8', 'vit-32-2')
    per_class: int = 10
    set_steps: int = 500
    set_rate: float = 0.05
    real_batch: int = 32
    batch: int = 64
    steps: int = 500
    learning_rate: float = 2e-3
    evaluations: int = 2
    crop_padding: int = 1

    # Models.

    def norm_of(self, spec: str) -> str:
        return USUAL_NORMS.get(spec.partition('-')[0], 'group') if self.norm == USUAL else self.norm

    def model(self, spec: str) -> Model:
        data = self.data
        return named(spec, classes=data.classes, image_shape=data.image_shape, norm=self.norm_of(spec))

    def train_teacher(self, name: str, spec: str, *, norm: str | None = None) -> Trained:
        """As for every task of small images, with the norm of its architecture (or `norm`: 'batch' to be recovered)."""
        own = dataclasses.replace(self, norm=norm or self.norm_of(spec))
        return SmallImages.train_teacher(own, name, spec)

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

    def chosen(
        self, way: str = 'random', *, factor: int = 1, soft_labels: bool = False, rate: float | None = None
    ) -> Output:
        """Real training images as a set, drawn anew for each seed where `way` draws: a baseline, or where to start.

        factor: of mosaics, each of factor^2 images. soft_labels, rate: as of the set that starts there.
        Raises UserError on an unknown way, and where a class has too few images.
        """
        if way not in WAYS:
            raise unknown('way to choose images', way, WAYS)
        per_class = self.per_class * factor**2
        learned: dict[str, Any] = {'soft_labels': soft_labels, 'rate': rate}
        selection.members(
            self.data['train'].take(np.arange(len(self.data['train'])))['label'], self.data.classes, per_class
        )
        config = {
            'dataset': self.dataset, 'train_examples': self.train_examples, 'way': way, 'per_class': self.per_class,
            'factor': factor, **learned,
        }  # fmt: skip
        suffix = f'_{factor}' * (factor > 1) + '_soft' * soft_labels + '_rate' * (rate is not None)
        stage = Compute(
            name=f'chosen_{way}{suffix}', module=__name__, config=config, data=self.data,
            call=functools.partial(_choose, self.data, way, per_class, factor, learned),
            shapes=functools.partial(_set_shapes, self.set_model(**learned)),
        )  # fmt: skip
        return Output(stage)

    def experts(
        self,
        *,
        count: int = 10,
        epochs: int = 20,
        rate: float = 0.1,
        expert_batch: int = 64,
        radius: float = 0.0,
        weight: float = 1.0,
        name: str = 'experts',
    ) -> Output:
        """A buffer `[count, epochs + 1, ...]` of the ways of students over all training images, shared by all seeds.

        radius, weight: of `experts.flat_gradient`; radius > 0 takes two gradients a step. `drawn_from` reads it.
        """
        options = {'epochs': epochs, 'batch': expert_batch, 'rate': rate, 'radius': radius, 'weight': weight}
        config = {
            'dataset': self.dataset, 'train_examples': self.train_examples, 'model': self.matched().name,
            'count': count, **options,
        }  # fmt: skip
        call = functools.partial(_experts, self.matched(), self.data, count, options)
        return Output(Compute(name=name, module=__name__, config=config, data=self.data, shared=True, call=call))

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
        **options: Any,
    ) -> Output:
        """A stage that learns a set: the player `synthetic`, and a batch of `real_batch` images of every class.

        The batch holds `image` `[real_batch, classes, H, W, C]` as networks see them, and `label`. start: variables of
        the set to begin with; noise otherwise. passes: forward passes of the student in a step, over real and synthetic
        images, a gradient counted as two more: for the cost. options: of `play`.
        """
        bound, inputs = dict(bound or {}), dict(inputs or {})
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
            name=name, module=type(self).__module__, config=dataclasses.asdict(self), inputs=inputs,
            algorithm=algorithm, data=self.by_class, batch=self.real_batch, steps=self.set_steps,
            evaluate_every=self.set_steps, measure=_unmeasured,
            cost=functools.partial(_set_cost, self.matched(), self.example(), self.set_steps * passes),
        )  # fmt: skip
        return stage['variables']['synthetic']

    def _prepare_rows(self, batch: Mapping[str, Any], *, key: jax.Array, train: bool) -> dict[str, Any]:
        del key, train
        image = jnp.asarray(batch['image'])
        flat = prepare(image.reshape(-1, *image.shape[2:]), mean=self.data.mean, std=self.data.std)
        return {**batch, 'image': flat.reshape(image.shape)}

    # What is measured.

    def measured(
        self, made: Output, *, soft_labels: bool = False, rate: float | None = None, factor: int = 1, name: str = 'arm'
    ) -> Train:
        """Students that learn from a set, by hard labels and by the task's teacher's, and further architectures.

        soft_labels, rate: as it was made. With `soft_labels` one more student, `own`, learns from the set's labels.
        """
        source = learned_from(
            self.set_model(soft_labels=soft_labels, rate=rate), name='set', batch=self.batch,
            augment=self._crop if self.crop_padding else None, factor=factor,
        )  # fmt: skip
        players = self._students('set', 'set.label')
        if soft_labels:
            players['own'] = self._student(self.student, term(losses.cross_entropy, 'own', 'set.soft'), 'own', 'set')
        return self._play_students(players, {'set': Bound(source, {'set': made})}, 'set', name)

    def on_real_images(self, *, name: str = 'arm') -> Train:
        """The same students on fresh minibatches of all real images: RS2 without replacement, at equal steps.

        RS2's rounds are consecutive parts of a permutation, so this is it for every size of round. It is matched in
        compute, not in storage. Source: RS2, arXiv 2305.18424.
        """
        return self._play_students(self._students('batch.image', 'batch.label'), {}, 'batch.image', name)

    def _students(self, reads: str, labels: str) -> dict[str, Player]:
        named_ = {'student': self.student, **{spec.partition('-')[0]: spec for spec in self.transfer}}
        if len(named_) <= len(self.transfer):
            raise UserError(f"transfer={self.transfer}: architectures need different first words, none 'student'")
        players = {n: self._student(s, term(losses.cross_entropy, n, labels), n, reads) for n, s in named_.items()}
        return players | {'soft': self._student(self.student, kl('soft', 'judge'), 'soft', reads)}

    def _student(self, spec: str, objective: Objective, name: str, reads: str) -> Player:
        calls = {} if reads.startswith('batch.') else {name: 3.0}
        return Player(self.model(spec), objective, self.optimizer(), reads=(reads,), calls=calls)

    def _play_students(self, players: dict[str, Player], bound: Mapping[str, Bound], reads: str, name: str) -> Train:
        trained = self.trained_teacher
        judge = teachers.live(trained.model, weights='judge', reads=reads)
        judged = {**bound, 'judge': Bound(judge, {'judge': trained.variables}, (trained.model,))}
        return self.play(players, judged, name=name, evaluates=functools.partial(_answers, tuple(players)))

    def _crop(self, images: jax.Array, *, key: jax.Array) -> jax.Array:
        """A random shift of images as networks see them, each its own; black comes in."""
        black = -jnp.asarray(self.data.mean, jnp.float32) / jnp.asarray(self.data.std, jnp.float32)
        black = black[None, None, None, :]
        return random_crop(images - black, key=key, padding=self.crop_padding) + black


def _experts(
    model: Model, source: ImageDataset, count: int, options: Mapping[str, Any], inputs: Any, *, key: jax.Array
) -> Any:
    del inputs
    train = source['train'].take(np.arange(len(source['train'])))
    images = prepare(jnp.asarray(train['image']), mean=source.mean, std=source.std)
    labels = jnp.asarray(train['label'])

    @jax.jit
    def one_after_the_other(keys):
        return jax.lax.map(lambda key: expert(model, images, labels, key=key, **options), keys)

    return one_after_the_other(jax.random.split(stream(key, 'experts'), count))


def _answers(names: tuple[str, ...], view: Any) -> dict[str, jax.Array]:
    return {name: view[f'{name}()'](view['batch.image']).prediction for name in names}


def _unmeasured(said: Mapping[str, np.ndarray], reference: Any) -> dict[str, float]:
    """Nothing is said of a set until networks have learned from it."""
    del said, reference
    return {}


def _set_cost(model: Model, example: Any, passes: float) -> dict[str, float]:
    each = forward_flops(model, example)
    zeros = dict.fromkeys(('parameters', 'teacher_flops', 'teacher_queries', 'cache_bytes'), 0.0)
    return {**zeros, 'forward_flops': each, 'student_flops': each * passes}


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
    train = source['train'].take(np.arange(len(source['train'])))
    labels = np.asarray(train['label'])
    images = np.asarray(prepare(jnp.asarray(train['image']), mean=source.mean, std=source.std))
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
    chosen = images[rows]
    return started(chosen if factor == 1 else factorised(chosen, factor), **options)


def _set_shapes(model: Model, inputs: Any) -> Any:
    del inputs
    return jax.eval_shape(lambda: model.init(jax.random.key(0), None))
