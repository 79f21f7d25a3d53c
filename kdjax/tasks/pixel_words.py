"""Task `pixel words`: digits as sentences of 16 words; encoders learn them without labels, then a probe says what.

    {'masked': task.trained(task.hidden_words(), masked=True), 'minilm': task.trained(relations, task.cached_teacher)}
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import einops
import jax
import jax.numpy as jnp
import numpy as np

from kdjax import data, losses, teachers
from kdjax.algorithms import Player, play
from kdjax.algorithms.players import Evaluates, Prepare
from kdjax.data.batches import evaluation_batches
from kdjax.data.dataset import ImageDataset
from kdjax.errors import UserError
from kdjax.metrics import accuracy
from kdjax.models.encoder import EncoderConfig, encoder
from kdjax.models.heads import linear_like
from kdjax.models.model import Model, Outputs, Variables
from kdjax.objectives import Objective, Part, learned, term
from kdjax.stage import Compute, Output, Train
from kdjax.streams import stream
from kdjax.tasks.task import Bound, Task, Trained, cost
from kdjax.teachers import Teacher

WORDS, MASK = 81, 81
"""Patches of 2 x 2 pixels in three shades of grey; and the word that stands for one that is hidden."""
SHADES = 0.25, 0.75
PATCH = 2

_ENCODER = re.compile(r'encoder-(\d+)-(\d+)')


@dataclasses.dataclass(frozen=True)
class PixelWords(Task):
    """Models: `encoder-WIDTH-DEPTH`, all with as many heads, pre-trained on every image of the train split.

    masked: share of the words that are hidden where words are predicted. The teacher learns to predict them.
    Arms are measured by a linear probe of the mean token of plain images: a ridge regression on the classes of the
    first `labelled` images, in closed form, features standardised, the penalty `ridge`.
    """

    reads: ClassVar[tuple[str, ...]] = ('batch.tokens',)

    dataset: str = 'digits'
    labelled: int = 100
    ridge: float = 1.0
    student: str = 'encoder-32-2'
    teacher: str = 'encoder-64-4'
    heads: int = 4
    masked: float = 0.3
    batch: int = 32
    steps: int = 500
    learning_rate: float = 3e-3
    teacher_steps: int = 1000
    weight_decay: float = 0.01
    evaluations: int = 1

    @functools.cached_property
    def data(self) -> ImageDataset:
        return data.load(self.dataset)

    @functools.cached_property
    def probed(self) -> tuple[jax.Array, jax.Array]:
        """The words of the labelled images `[labelled, patches]`, and their classes."""
        columns = data.load(self.dataset, train_examples=self.labelled)['train'].take(np.arange(self.labelled))
        return words(jnp.asarray(columns['image'])), jnp.asarray(columns['label'])

    @property
    def length(self) -> int:
        height, width, _ = self.data.image_shape
        return (height // PATCH) * (width // PATCH)

    def config(self, spec: str) -> EncoderConfig:
        """Sizes by name. Raises UserError for another kind of name."""
        if not (found := _ENCODER.fullmatch(spec)):
            raise UserError(f"model '{spec}' of pixel words: write encoder-WIDTH-DEPTH, such as encoder-32-2")
        width, depth = int(found[1]), int(found[2])
        return EncoderConfig(WORDS + 1, width, depth, self.heads, 4 * width, context=self.length, masked_lm=True)

    def model(self, spec: str) -> Model:
        return encoder(self.config(spec))

    def example(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, self.length), np.int32)

    def prepared(self) -> Prepare:
        return functools.partial(prepare, masked=self.masked, labelled=self.probed[0])

    def evaluated(self) -> Evaluates:
        classes = jax.nn.one_hot(self.probed[1], self.data.classes)
        return lambda view: {'student': probe(view['student.pooled'], classes, ridge=self.ridge)}

    def measure(self) -> Callable[..., dict[str, float]]:
        return measure

    # Objectives.

    def hidden_words(self) -> Objective:
        """Cross-entropy of the words that are hidden, of a model that reads `batch.masked`."""
        return term(losses.cross_entropy, 'student', 'batch.tokens', name='hidden_words', where='batch.hidden')

    def relations(self, student: str, teacher: str, *, values: bool = True) -> Objective:
        """MiniLM's L_AT + L_VR of the last layers of two models, or L_AT alone."""
        last = {'student': self.config(student).depth, 'teacher': self.config(teacher).depth}

        def of(*taps: str) -> tuple[str, ...]:
            return tuple(f'{node}.{tap}{layer}' for node, layer in last.items() for tap in taps)

        attention = term(losses.attention_relation, *of('queries', 'keys'), name='attention')
        return attention + term(losses.value_relation, *of('values'), name='values') if values else attention

    def hidden_states(self) -> Objective:
        """Mean squared error of the last hidden states, the student's through a learned projection."""
        part = Part('projector', linear_like, ('student.hidden',), like=('teacher.hidden',))
        return learned(part) + term(losses.hint_mse, part.name, 'teacher.hidden', axis=-1, name='hidden_states')

    # Teachers and arms.

    @functools.cached_property
    def trained_teacher(self) -> Trained:
        optimizer = self.optimizer(self.teacher_steps, self.teacher_learning_rate)
        player = Player(self.model(self.teacher), self.hidden_words(), optimizer, ('batch.masked',))
        said = ('teacher', 'heads', 'masked', 'batch', 'teacher_steps', 'teacher_learning_rate', 'weight_decay')
        stage = Train(
            name='teacher', module=__name__, config={name: getattr(self, name) for name in said}, shared=True,
            algorithm=play({'student': player}, prepare=self.prepared(), evaluates=self.evaluated()),
            data=self.data, batch=self.batch, steps=self.teacher_steps, evaluate_every=self.teacher_steps,
            measure=measure,
            cost=functools.partial(cost, {'student': player}, {}, self.example(), self.batch * self.teacher_steps),
        )  # fmt: skip
        return Trained(player.model, stage['variables']['student'])

    @functools.cached_property
    def cached_teacher(self) -> Bound:
        """The last layer of the task's teacher on the train split as it is: all that relations and hints read."""
        trained, source = self.trained_teacher, self.data
        depth = self.config(self.teacher).depth
        taps = 'hidden', *(f'{tap}{depth}' for tap in ('queries', 'keys', 'values'))
        call = functools.partial(_taps, trained.model, source, taps)
        shapes = functools.partial(_tap_shapes, trained.model, source, taps, self.example())
        stage = Compute(
            name='teacher_taps', module=__name__, config={'model': trained.model.name, 'taps': taps},
            inputs={'model': trained.variables}, shared=True, call=call, data=source, shapes=shapes,
        )  # fmt: skip
        size = sum(x.size * x.dtype.itemsize for x in shapes({}).values())
        return Bound(_looked_up('teacher'), {'teacher': Output(stage)}, cache_bytes=size)

    def live_teacher(self, trained: Trained | None = None, *, name: str = 'teacher', masked: bool = False) -> Bound:
        """masked: it reads images with words hidden, as the student does."""
        trained = trained or self.trained_teacher
        teacher = teachers.live(trained.model, weights=name, reads='batch.masked' if masked else 'batch.tokens')
        return Bound(teacher, {name: trained.variables}, (trained.model,))

    def trained(
        self, objective: Objective, teacher: Bound | None = None, *, model: str | None = None, masked: bool = False,
        name: str = 'arm', steps: int | None = None,
    ) -> Train:  # fmt: skip
        """An arm that learns from all images, without labels. masked: it reads them with words hidden."""
        reads = ('batch.masked',) if masked else self.reads
        player = dataclasses.replace(self.player(objective, model=model, steps=steps), reads=reads)
        return self.play({'student': player}, {'teacher': teacher} if teacher else {}, steps=steps, name=name)


def words(image: jax.Array) -> jax.Array:
    """`[batch, height, width, 1]`, uint8 or float in 0..1, -> words int32 `[batch, patches]`."""
    grey = image.astype(jnp.float32) / (255.0 if image.dtype == jnp.uint8 else 1.0)
    shade = sum((grey > level).astype(jnp.int32) for level in SHADES)
    patches = einops.rearrange(shade, 'b (h p) (w q) 1 -> b (h w) (p q)', p=PATCH, q=PATCH)
    return patches @ jnp.array([27, 9, 3, 1], jnp.int32)


def prepare(
    batch: Mapping[str, Any], *, key: jax.Array, train: bool, masked: float, labelled: jax.Array
) -> dict[str, Any]:
    """`tokens` [batch, patches]; `hidden`, which of them are asked for; `masked`, with those behind the mask.

    To be evaluated: nothing hidden, and the labelled images after those of the batch.
    """
    tokens = words(jnp.asarray(batch['image']))
    if not train:
        tokens = jnp.concatenate([tokens, labelled])
    hidden = jax.random.bernoulli(stream(key, 'masked'), masked if train else 0.0, tokens.shape)
    return {**batch, 'tokens': tokens, 'hidden': hidden, 'masked': jnp.where(hidden, MASK, tokens)}


def probe(features: jax.Array, classes: jax.Array, *, ridge: float) -> jax.Array:
    """What a ridge regression on the last rows, whose `classes` [labelled, C] are known, says of the others, float32.

    Features are standardised by those last rows.
    """
    known = features[-len(classes) :]
    mean, spread = (statistic(known, axis=0, keepdims=True) for statistic in (jnp.mean, jnp.std))
    features = (features - mean) / (spread + 1e-6)
    features = jnp.pad(features, ((0, 0), (0, 1)), constant_values=1.0)
    known = features[-len(classes) :]
    weights = jnp.linalg.solve(known.T @ known + ridge * jnp.eye(known.shape[1]), known.T @ classes)
    return features[: -len(classes)] @ weights


def measure(said: Mapping[str, np.ndarray], reference: None) -> dict[str, float]:
    """Of the probe's scores, which are no logits: how often the highest is right."""
    del reference
    return {'accuracy': accuracy(said['student'], said['label'])}


def _looked_up(name: str) -> Teacher:
    def apply(memory, frozen, view, *, key):
        del memory, key
        rows = {tap: jnp.take(table, view['batch.index'], axis=0) for tap, table in frozen[name].items()}
        return Outputs(rows['hidden'], jax.lax.stop_gradient(rows))

    return Teacher(apply)


def _taps(
    model: Model, source: ImageDataset, taps: tuple[str, ...], inputs: Mapping[str, Variables], *, key: jax.Array
) -> dict[str, np.ndarray]:
    @jax.jit
    def said(variables, batch):
        outputs = model.apply(variables, words(batch['image']), key=key, train=False)[0]
        return {tap: outputs.taps[tap] for tap in taps}

    kept = []
    for batch in evaluation_batches(source['train'], 250):
        found = said(inputs['model'], batch)
        kept.append({tap: np.asarray(found[tap])[batch['where']] for tap in taps})
    return {tap: np.concatenate([each[tap] for each in kept]) for tap in taps}


def _tap_shapes(
    model: Model, source: ImageDataset, taps: tuple[str, ...], example: Any, inputs: Any
) -> dict[str, jax.ShapeDtypeStruct]:
    del inputs
    key = jax.random.key(0)
    variables = jax.eval_shape(model.init, key, example)
    outputs = jax.eval_shape(lambda v, x: model.apply(v, x, key=key, train=False)[0], variables, example)
    rows = len(source['train'])
    return {t: jax.ShapeDtypeStruct((rows, *outputs.taps[t].shape[1:]), outputs.taps[t].dtype) for t in taps}
