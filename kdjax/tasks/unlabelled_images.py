"""Task `unlabelled images`: a set that was made without labels pre-trains a network, and a linear readout measures it.

    task.read_out('krr_st', task.condensed('krr_st', task.pairs('random')))

A teacher learns a representation of all images without a label. A set is pairs of an image and a vector in the place
of the teacher's; a network learns them by mean squared error, its last layer is taken off, and the rest is frozen.
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

from kdjax import losses
from kdjax.algorithms import Algorithm, Player, play
from kdjax.algorithms.condensation import targets
from kdjax.algorithms.condensation.networks import pool
from kdjax.algorithms.condensation.sets import by_part
from kdjax.data import selection
from kdjax.data.augment import augment, prepare
from kdjax.errors import unknown
from kdjax.models.heads import mlp_projector
from kdjax.models.model import Model, Variables
from kdjax.models.named import named
from kdjax.objectives import Part, learned, term
from kdjax.stage import Compute, Output, Train
from kdjax.streams import stream
from kdjax.tasks.readout import Readout, seen
from kdjax.tasks.small_images import SmallImages
from kdjax.tasks.task import Bound, Trained

WAYS = ('random', 'k_means')


@dataclasses.dataclass(frozen=True)
class UnlabelledImages(SmallImages):
    """What every experiment on sets without labels can be told.

    student: the network that sets are matched through and that learns from them; teacher: of the representation.
    size: pairs of a set: far fewer than a network has features, as a readout that fits pairs exactly is at its worst
    where there are as many. set_steps, set_rate: its updates and their rate (Adam, falling in a line to a thousandth).
    real_batch: unlabelled images in an update. networks, age, network_rate: of the pool that the set is matched
    through. batch, steps, learning_rate: of pre-training on a set, and of the teacher on all images.
    labelled: images of each class that the readout sees; draws: how often they are drawn. contrast: temperature of the
    teacher's loss; shifts: pixels by which its two views are shifted, at most.
    """

    student: str = 'convnet-32'
    teacher: str = 'convnet-32'
    norm: str = 'instance'
    crop_padding: int = 1
    size: int = 20
    set_steps: int = 1000
    set_rate: float = 0.003
    real_batch: int = 256
    networks: int = 5
    age: int = 100
    network_rate: float = 0.1
    batch: int = 50
    steps: int = 300
    labelled: int = 5
    draws: int = 20
    contrast: float = 0.2
    shifts: int = 2

    # Networks.

    @functools.cached_property
    def representation(self) -> Trained:
        """The teacher: two shifted views of an image are alike and apart from all others (contrast), without labels."""
        model = self.model(self.teacher)
        projected = Part('projected', functools.partial(mlp_projector, features=self.width), ('student.pooled',))
        objective = learned(projected) + term(apart, 'projected', temperature=self.contrast)
        player = Player(model, objective, self.optimizer(self.teacher_steps), reads=('batch.views',))
        algorithm = play({'student': player}, prepare=self._views, evaluates=())
        told = ('teacher', 'norm', 'teacher_steps', 'learning_rate', 'weight_decay', 'contrast', 'shifts', 'real_batch')
        config = {**self._source(), **{name: getattr(self, name) for name in told}}
        stage = self._trains('representation', algorithm, config, batch=self.real_batch, steps=self.teacher_steps)
        return Trained(model, dataclasses.replace(stage, shared=True)['variables']['student'])

    @functools.cached_property
    def width(self) -> int:
        """Of the teacher's representation."""
        model = self.model(self.teacher)
        example = self.example()
        said = jax.eval_shape(
            lambda: model.apply(
                model.init(jax.random.key(0), example), jnp.zeros(example.shape), key=jax.random.key(0), train=False
            )[0]
        )
        return said.taps['pooled'].shape[-1]

    def network(self) -> Model:
        """What learns from sets: the student with the teacher's representation in the place of classes."""
        return named(self.student, classes=self.width, image_shape=self.data.image_shape, norm=self.norm)

    # Sets.

    def set_model(self) -> Model:
        return targets.target_set(self.data.image_shape, examples=self.size, width=self.width)

    def pairs(self, way: str = 'random') -> Output:
        """Real images with the teacher's representation, at random or nearest to centres of k-means on all pixels.

        Labels play no part. Raises UserError on an unknown way.
        """
        if way not in WAYS:
            raise unknown('way to choose unlabelled images', way, WAYS)
        stage = Compute(
            name=f'pairs_{way}', module=__name__, config={**self._source(), 'way': way, 'size': self.size},
            inputs={'teacher': self.representation.variables}, data=self.data,
            call=functools.partial(_pairs, self.representation.model, self.data, way, self.size),
            shapes=lambda inputs: jax.eval_shape(lambda: self.set_model().init(jax.random.key(0), None)),
        )  # fmt: skip
        return Output(stage)

    def condensed(self, name: str, start: Output, *, images: bool = True, labels: bool = True) -> Output:
        """KRR-ST: a readout fitted to the set on networks of a pool should say what the teacher says of real images.

        images, labels: whether the images and their targets are learned; what is not stays as it starts.
        Source: arXiv 2310.06511, algorithm 1, and its distill.py and model_pool.py (AdamW without decay, networks by
        SGD with momentum 0.9 and decay 1e-3; ages of up to 1000 and 10 networks there).
        """
        network = self.network()
        inner = optax.chain(optax.add_decayed_weights(1e-3), optax.sgd(self.network_rate, momentum=0.9))
        networks = pool(
            network, functools.partial(targets.fitted_to, model=network, node='synthetic'), inner, name='pool',
            age=self.age, size=self.networks,
        )  # fmt: skip
        rate = optax.linear_schedule(self.set_rate, 1e-3 * self.set_rate, self.set_steps)
        learn = {'image': images, 'others': labels}
        player = Player(
            self.set_model(),
            term(
                targets.representation_matching, 'synthetic', 'synthetic.target', 'batch.image', 'teacher.pooled',
                'pool', model=network,
            ),
            by_part(**{part: optax.adam(rate) for part, wanted in learn.items() if wanted}),
            start='start',
        )  # fmt: skip
        teacher = self.live_teacher(self.representation)
        algorithm = play(
            {'synthetic': player}, teachers={'pool': networks, 'teacher': teacher.teacher}, prepare=self.prepared(),
            evaluates=(),
        )  # fmt: skip
        stage = self._trains(
            name, algorithm, {**dataclasses.asdict(self), **learn}, batch=self.real_batch, steps=self.set_steps,
            inputs={'start': start, **teacher.inputs},
        )  # fmt: skip
        return stage['variables']['synthetic']

    # What is measured.

    def pretrained(self, name: str, made: Output) -> Output:
        """The variables of a network that learned a set by mean squared error, and nothing else."""
        source = targets.learned_from_targets(self.set_model(), name='set', batch=self.batch)
        return self._pretrained(name, 'set', 'set.target', {'set': Bound(source, {'set': made})})

    def pretrained_on_all(self) -> Output:
        """The variables of a network that learned the teacher's representation of all images, in as many steps."""
        return self._pretrained(
            'all', 'batch.image', 'teacher.pooled', {'teacher': self.live_teacher(self.representation)}
        )

    def _pretrained(self, name: str, reads: str, wanted: str, bound: Mapping[str, Bound]) -> Output:
        player = Player(self.network(), term(losses.hint_mse, 'student', wanted), self.optimizer(), reads=(reads,))
        taught = {n: b.teacher for n, b in bound.items()}
        algorithm = play({'student': player}, teachers=taught, prepare=self.prepare(0), evaluates=())
        inputs = {n: read for b in bound.values() for n, read in b.inputs.items()}
        stage = self._trains(
            f'pretrained_{name}', algorithm, dataclasses.asdict(self), batch=self.batch, steps=self.steps, inputs=inputs
        )
        return stage['variables']['student']

    def untrained(self) -> Output:
        """The variables of a network that has learned nothing."""
        network, example = self.network(), self.example()
        stage = Compute(
            name='untrained', module=__name__, config={**self._source(), 'model': network.name},
            call=lambda inputs, *, key: network.init(stream(key, 'init'), example),
        )  # fmt: skip
        return Output(stage)

    def read_out(self, name: str, variables: Output) -> Compute:
        """An arm: how well a linear readout of a frozen network's features tells classes; see `readout.Readout`."""
        call = Readout(self.data, self.network(), self.representation.model, self.labelled, self.draws)
        inputs = {'network': variables, 'teacher': self.representation.variables}
        return Compute(
            name=name, module=__name__, config=dataclasses.asdict(self), data=self.data, inputs=inputs, call=call,
            shapes=lambda inputs: {},
        )  # fmt: skip

    # What the stages above share.

    def _trains(
        self, name: str, algorithm: Algorithm, config: Mapping[str, Any], *, batch: int, steps: int,
        inputs: Mapping[str, Output] | None = None,
    ) -> Train:  # fmt: skip
        return Train(
            name=name, module=__name__, config=config, inputs=inputs or {}, algorithm=algorithm, data=self.data,
            batch=min(batch, len(self.data['train'])), steps=steps, evaluate_every=steps, measure=_unmeasured,
        )  # fmt: skip

    def _source(self) -> dict[str, Any]:
        return {'dataset': self.dataset, 'train_examples': self.train_examples}

    def _views(self, batch: Mapping[str, Any], *, key: jax.Array, train: bool) -> dict[str, Any]:
        """`views`: every image twice, each time shifted by itself, `[2 * batch, H, W, C]`."""
        images = jnp.concatenate([batch['image'], batch['image']])
        if train:
            images = augment(images, key=stream(key, 'views'), flip=self.data.flip_ok, padding=self.shifts)
        return {**batch, 'views': prepare(images, mean=self.data.mean, std=self.data.std)}


def apart(projected: jax.Array, *, temperature: float) -> jax.Array:
    """InfoNCE of the first half of the rows and of the second, their other views, `[rows / 2]`.

    Source: SimCLR, arXiv 2002.05709, whose negatives are also the other images of the same half.
    """
    one, other = jnp.split(projected, 2)
    return losses.in_batch_nce(one, other, temperature=temperature, symmetric=True)


def _unmeasured(said: Mapping[str, np.ndarray], reference: Any) -> dict[str, float]:
    """Nothing is said before a readout."""
    del said, reference
    return {}


def _pairs(
    model: Model, source: Any, way: str, size: int, inputs: Mapping[str, Variables], *, key: jax.Array
) -> Variables:
    images = seen(source, 'train')
    draw = stream(key, 'choice')
    if way == 'random':
        rows = jax.random.permutation(draw, len(images))[:size]
    else:
        seed = int(jax.random.bits(draw, dtype=jnp.uint32))
        rows = jnp.asarray(selection.nearest_to_centres(np.asarray(images).reshape(len(images), -1), size, seed=seed))
    said, _ = model.apply(inputs['teacher'], images[rows], key=key, train=False)
    return targets.paired(images[rows], said.taps['pooled'])
