"""What tasks on text share: decoders, a teacher trained once, and what is measured of each token."""

from __future__ import annotations

import abc
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
from kdjax.algorithms.players import Prepare
from kdjax.data.batches import evaluation_batches
from kdjax.data.dataset import Dataset
from kdjax.data.text_batch import prepare_text
from kdjax.decoding import LanguageModel
from kdjax.metrics.language import language
from kdjax.models.decoder import DecoderInputs, decoder
from kdjax.models.model import Model, Variables
from kdjax.models.named import named_decoder
from kdjax.objectives import hard_labels
from kdjax.stage import Compute, Output, Train
from kdjax.tasks.task import Bound, Task, Trained, cost
from kdjax.view import View

JUDGE = 'judge'
"""The task's teacher, where it is only measured with."""


MEASURED = {'nll', 'hit', 'confidence', 'kl', 'agree', 'where', 'bytes'}
"""What `kdjax.metrics.language` reads."""


@dataclasses.dataclass(frozen=True)
class Language(Task):
    """A task whose data are rows of tokens, see `kdjax.data.packing`. Models: `llama-WIDTH-DEPTH`, `gpt2-WIDTH-DEPTH`.

    Arms are measured in every token that counts: `nll`, `perplexity`, `accuracy`, `ece`, and against the task's teacher
    `kl`, KL(teacher || student), `kl_reverse`, `overlap` = sum min(p, s), the rate at which speculative decoding would
    accept the student's draft, and `agreement`.
    """

    reads: ClassVar[tuple[str, ...]] = ('batch.tokens', 'batch.segment', 'batch.position')

    student: str = 'llama-48-2'
    teacher: str = 'llama-128-4'
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    teacher_learning_rate: float = 2e-3
    evaluations: int = 4

    @property
    @abc.abstractmethod
    def vocabulary(self) -> int:
        """How many tokens there are."""

    @property
    @abc.abstractmethod
    def length(self) -> int:
        """Inputs in a row."""

    @property
    def teacher_data(self) -> Dataset:
        """What the teacher is trained on; the student's data unless the task has more."""
        return self.data

    def model(self, spec: str) -> Model:
        return self.language_model(spec).model

    def language_model(self, spec: str) -> LanguageModel:
        """A model with its sizes, which it needs to write text."""
        config = named_decoder(spec, vocabulary=self.vocabulary, context=self.length)
        return LanguageModel(decoder(config), config)

    def example(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        return (jax.ShapeDtypeStruct((1, self.length), np.int32),) * 3

    def prepared(self) -> Prepare:
        return prepare

    def evaluated(self) -> Callable[[View], dict[str, jax.Array]]:
        return said_of_tokens

    def measure(self) -> Callable[..., dict[str, float]]:
        return measure

    def judges(self) -> Mapping[str, Bound]:
        judge = self.live_teacher(name=JUDGE)
        return {JUDGE: dataclasses.replace(judge, models=())}

    @functools.cached_property
    def trained_teacher(self) -> Trained:
        """The task's teacher: trained on the next token, shared by every experiment with the same settings."""
        return self.train_teacher('teacher', self.teacher)

    def train_teacher(self, name: str, spec: str, *, data: Dataset | None = None, steps: int | None = None) -> Trained:
        """A model trained on the next token of the teacher's data, or of other data, one for all seeds."""
        steps = steps or self.teacher_steps
        config = _Teaching(spec, self.batch, steps, self.teacher_learning_rate, self.weight_decay)
        model = self.model(spec)
        return Trained(model, config.stage(name, model, data or self.teacher_data, self)['variables']['student'])

    def cached_teacher(self, trained: Trained | None = None, *, name: str = 'teacher') -> Bound:
        """Hidden states of a trained model on the training split, in bfloat16, and its head."""
        trained = trained or self.trained_teacher
        call = functools.partial(_hidden, trained.model, self.data)
        config = {'model': trained.model.name, 'data': self.data.identity}
        shapes = functools.partial(_hidden_shapes, trained.model, self.data, self.example())
        stage = Compute(
            name=f'{name}_hidden', module=__name__, config=config, inputs={'model': trained.variables}, shared=True,
            call=call, data=self.data, shapes=shapes,
        )  # fmt: skip
        size = sum(x.size * x.dtype.itemsize for x in shapes({}).values())
        return Bound(teachers.cached_hidden(name), {name: Output(stage)}, cache_bytes=size)


@dataclasses.dataclass(frozen=True)
class _Teaching:
    """All that a teacher depends on besides its data: experiments that agree on it share the teacher."""

    model: str
    batch: int
    steps: int
    learning_rate: float
    weight_decay: float

    def stage(self, name: str, model: Model, data: Dataset, task: Language) -> Train:
        schedule = optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, self.steps // 20, self.steps)
        player = Player(model, hard_labels(), optax.adamw(schedule, weight_decay=self.weight_decay), task.reads)
        return Train(
            name=name, module=__name__, config=dataclasses.asdict(self), shared=True,
            algorithm=play({'student': player}, prepare=prepare, evaluates=said_of_tokens),
            data=data, batch=self.batch, steps=self.steps, evaluate_every=self.steps, measure=measure,
            cost=functools.partial(cost, {'student': player}, {}, task.example(), self.batch * self.steps),
        )  # fmt: skip


def prepare(batch: Mapping[str, Any], *, key: jax.Array, train: bool) -> dict[str, Any]:
    """Stored columns -> inputs, labels and masks."""
    del key, train
    return prepare_text(batch)


def said_of_tokens(view: View) -> dict[str, jax.Array]:
    """What `kdjax.metrics.language` reads, `[batch, length]` each; of the student, and of a judge if there is one."""
    said = of_tokens(view['student'], view['batch.label'])
    if JUDGE in view:
        said |= against(view['student'], view[JUDGE])
    return said | {'where': view['batch.where']}


def of_tokens(logits: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
    """Negative log-likelihood, whether the likeliest token came, and its probability."""
    return {
        'nll': losses.cross_entropy(logits, label),
        'hit': jnp.argmax(logits, axis=-1) == label,
        'confidence': jnp.max(jax.nn.softmax(logits), axis=-1),
    }


def against(logits: jax.Array, teacher: jax.Array) -> dict[str, jax.Array]:
    """Divergences from a teacher, and agreement with it."""
    return {
        'kl': losses.kl_forward(logits, teacher),
        'kl_reverse': losses.kl_reverse(logits, teacher),
        'overlap': 1 - losses.total_variation(logits, teacher),
        'agree': jnp.argmax(logits, axis=-1) == jnp.argmax(teacher, axis=-1),
    }


def measure(said: Mapping[str, np.ndarray], reference: None) -> dict[str, float]:
    """Metrics of a language model, and means over tokens of whatever else was evaluated."""
    del reference
    found = language(said)
    others = {name: np.asarray(values)[said['where']] for name, values in said.items() if name not in MEASURED}
    return found | {name: float(values.mean(dtype=np.float64)) for name, values in others.items()}


def _hidden(model: Model, data: Dataset, inputs: Mapping[str, Variables], *, key: jax.Array) -> dict[str, Any]:
    @jax.jit
    def hidden(variables, batch):
        read = prepare_text(batch)
        given = DecoderInputs(read['tokens'], read['segment'], read['position'])
        taps = model.apply(variables, given, key=key, train=False)[0].taps
        return taps['hidden'].astype(jnp.bfloat16), taps['head']

    kept = []
    for batch in evaluation_batches(data['train'], 64):
        states, head = hidden(inputs['model'], batch)
        kept.append(np.asarray(states)[batch['where']])
    return {'hidden': np.concatenate(kept), 'head': np.asarray(head)}


def _hidden_shapes(model: Model, data: Dataset, example: Any, inputs: Any) -> dict[str, jax.ShapeDtypeStruct]:
    del inputs
    key = jax.random.key(0)
    variables = jax.eval_shape(model.init, key, example)
    outputs = jax.eval_shape(lambda v, x: model.apply(v, x, key=key, train=False)[0], variables, example)
    hidden, head = outputs.taps['hidden'], outputs.taps['head']
    rows = len(data['train']), *hidden.shape[1:]
    return {'hidden': jax.ShapeDtypeStruct(rows, jnp.bfloat16), 'head': jax.ShapeDtypeStruct(head.shape, head.dtype)}
