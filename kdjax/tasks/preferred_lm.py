"""Task `preferred LM`: texts of a known language, of which those are preferred whose words are worth more."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses
from kdjax.algorithms import Player
from kdjax.algorithms.algorithm import Batch
from kdjax.algorithms.players import Prepare
from kdjax.algorithms.rollouts import Rollout
from kdjax.algorithms.writing import first_tokens, written
from kdjax.data.markov import Markov
from kdjax.data.preference_pairs import preference_pairs
from kdjax.data.text_batch import prepare_text
from kdjax.decoding import Prompts, generate
from kdjax.objectives import Objective, hard_labels, term
from kdjax.stage import Compute, Output, Train
from kdjax.tasks.language import said_of_tokens
from kdjax.tasks.oracle_lm import OracleLM
from kdjax.tasks.task import Trained
from kdjax.view import View


@dataclasses.dataclass(frozen=True)
class PreferredLM(OracleLM):
    """A row of the train split is a pair, the preferred text first, see `kdjax.data.preference_pairs`.

    Each token has a worth, drawn from N(0, 1) once; the reward of a text is the mean of its tokens'. The task's
    teacher, who learned the language, is the reference of preferences, and who models are compared with (`kl`).

    Models are measured along what they write themselves after held-out prompts: `reward`, exact over the next token at
    each place; `entropy` of the next token; `kl_truth` and the others of `OracleLM`.

    rows: pairs. warm_rows, warm_steps: what the student has read of the language, and for how long, before it
    begins to learn from pairs or from teachers. beta: of the teacher's DPO.
    """

    tokens: int = 16
    row: int = 16
    rows: int = 1024
    prompt: int = 4
    evaluation_rows: int = 512
    student: str = 'llama-32-1'
    batch: int = 32
    learning_rate: float = 1e-3
    steps: int = 400
    teacher_steps: int = 800
    warm_rows: int = 1024
    warm_steps: int = 400
    warm_learning_rate: float = 3e-3
    beta: float = 0.1
    preferring_steps: int = 400
    evaluations: int = 1

    @functools.cached_property
    def data(self) -> Markov:
        return preference_pairs(
            self.teacher_data, lambda texts: self.worth[texts].mean(axis=-1), rows=self.rows, prompt=self.prompt
        )

    @functools.cached_property
    def worth(self) -> np.ndarray:
        """Of each token, float32 `[tokens]`."""
        return np.random.default_rng(1).normal(size=self.tokens).astype(np.float32)

    @property
    def length(self) -> int:
        """Of a pair."""
        return 2 * self.row + 1

    def prepared(self) -> Prepare:
        return prepare_pairs

    def evaluated(self) -> Callable[[View], dict[str, jax.Array]]:
        def said(view: View) -> dict[str, jax.Array]:
            log_s = jax.nn.log_softmax(view['student'])
            truth = self.teacher_data.truth(jnp.asarray(view['batch.tokens']))
            return said_of_tokens(view) | {
                'kl_truth': losses.kl_forward(view['student'], truth),
                'reward': jnp.exp(log_s) @ jnp.asarray(self.worth),
                'entropy': -jnp.sum(jnp.exp(log_s) * log_s, axis=-1),
            }

        return said

    def play(self, *given: Any, writer: str | None = None, **options: Any) -> Train:
        own = written({'student': self.language_model(writer or self.student)}, first_tokens(self.prompt))
        return super().play(*given, evaluated_on=own, **options)

    @functools.cached_property
    def warm(self) -> Output:
        """The student that has read the language, one for each seed: what arms start from."""
        optimizer = self.optimizer(self.warm_steps, self.warm_learning_rate)
        player = Player(self.model(self.student), hard_labels(), optimizer, self.reads)
        stage = self.play({'student': player}, steps=self.warm_steps, name='warm')
        return dataclasses.replace(stage, data=self._drawn(self.warm_rows))['variables']['student']

    @functools.cached_property
    def preferring(self) -> Trained:
        """The task's teacher after DPO on the pairs."""
        reference = self.live_teacher(name='reference')
        player = self.player(
            preference(self.beta), model=self.teacher, steps=self.preferring_steps, start='reference'
        )
        stage = self.play(
            {'student': player}, {'reference': reference}, steps=self.preferring_steps, name='preferring',
            writer=self.teacher,
        )  # fmt: skip
        return Trained(self.model(self.teacher), dataclasses.replace(stage, shared=True)['variables']['student'])

    def answers(self, name: str, variables: Output) -> Output:
        """One text of a student after each prompt: `tokens` [rows, row + 1], `behaviour` [rows, row + 1 - prompt]."""
        model = self.language_model(self.student)
        prompts = self.data['train'].take(np.arange(self.rows))['tokens'][:, : self.prompt]

        def write(inputs, *, key):
            asked = Prompts(jnp.asarray(prompts), jnp.ones(prompts.shape, bool))
            said = generate(model, inputs['student'], asked, key=key, max_new=self.row + 1 - self.prompt)
            tokens = jnp.concatenate([asked.tokens, said.tokens], axis=1)
            return {'tokens': tokens, 'behaviour': said.log_probs}

        return Output(Compute(
            name=name, module=__name__, config={'prompt': self.prompt, 'student': self.student},
            inputs={'student': variables}, call=write, data=self.data,
        ))  # fmt: skip


def prepare_pairs(batch: Batch, *, key: jax.Array, train: bool) -> dict[str, Any]:
    """`prepare_text`, with `chosen` and `other` [B, T]: which labels of the first and of the second text count."""
    del key, train
    rows = prepare_text(batch)
    first, second = (rows['where'] & (rows['segment'] == document) for document in (1, 2))
    return rows | {'chosen': first, 'other': second, 'paired': jnp.any(second, axis=1)}


def answered(name: str = 'answers') -> Rollout:
    """The second text of each row becomes what `frozen[name]`, see `PreferredLM.answers`, holds for its `index`.

    `batch.behaviour` [B, T] is its log-probabilities under who wrote it.
    """

    def apply(memory: Any, batch: Batch, lookup: Callable[[str], Any], *, step: Any, key: jax.Array):
        said = jax.tree.map(lambda column: jnp.asarray(column)[batch['index']], lookup(name))
        length, drawn = said['tokens'].shape[1], said['behaviour'].shape[1]
        return {
            **batch,
            'tokens': batch['tokens'].at[:, length:].set(said['tokens'][:, :-1]),
            'label': batch['label'].at[:, length - 1 :].set(said['tokens']),
            'behaviour': jnp.pad(said['behaviour'], ((0, 0), (2 * length - 1 - drawn, 0))),
        }, memory

    return Rollout(apply)


def preference(beta: float, *, reference: str = 'reference', name: str = 'dpo') -> Objective:
    """DPO on the pairs of a batch (arXiv 2305.18290, equation 7)."""
    reads = ('student', reference, 'batch.label', 'batch.chosen', 'batch.other')
    return term(_dpo, *reads, beta=beta, where='batch.paired', name=name)


def _dpo(student, reference, label, chosen, other, *, beta, where):
    def of_texts(logits):
        log_probs = -losses.cross_entropy(logits, label)
        return (jnp.sum(jnp.where(counts, log_probs, 0.0), axis=-1) for counts in (chosen, other))

    return losses.dpo(*of_texts(student), *of_texts(reference), beta=beta, where=where)
