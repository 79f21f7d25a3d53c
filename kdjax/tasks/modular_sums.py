"""Task `modular sums`: answers that a rule checks, and a teacher who is known exactly and often wrong."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses, teachers
from kdjax.algorithms.algorithm import Batch
from kdjax.algorithms.rollouts import Rollout
from kdjax.algorithms.writing import first_tokens, written
from kdjax.data.dataset import SPLITS, ArraySource, Dataset, Origin
from kdjax.decoding import Prompts
from kdjax.models.model import Outputs
from kdjax.objectives import kl
from kdjax.stage import Output, Train
from kdjax.tasks.language import JUDGE, Language, said_of_tokens
from kdjax.tasks.task import Bound
from kdjax.view import View


@dataclasses.dataclass(frozen=True)
class ModularSums(Language):
    """A token is asked, `words` tokens answer: the last has to be the one before plus the asked, modulo `tokens`.

    The teacher is a table: each token follows the one before by softmax(sharpness * normal), and the last is right with
    probability `skill`. Students start as they are after KL(teacher || student) on its answers, and are measured along
    their own, which spend C = sum_t KL(student || teacher) over the answer:

        correct, within, joint    in 0..1, how many are right; have C <= budget; both
        spent                     C in nats
    """

    tokens: int = 8
    words: int = 5
    skill: float = 0.7
    sharpness: float = 1.0
    rows: int = 4096
    evaluation_rows: int = 2048
    budget: float = 0.3
    samples: int = 8
    student: str = 'gpt2-32-1'
    teacher: str = 'a table'
    batch: int = 64
    learning_rate: float = 1e-3
    steps: int = 300
    warm_steps: int = 500
    evaluations: int = 1

    @functools.cached_property
    def style(self) -> np.ndarray:
        """Log-probabilities of each token after each, float32 `[tokens, tokens]`."""
        logits = self.sharpness * np.random.default_rng(0).normal(size=(self.tokens, self.tokens))
        return np.asarray(jax.nn.log_softmax(logits.astype(np.float32)))

    @functools.cached_property
    def data(self) -> Dataset:
        """Tokens asked, with answers of the teacher."""
        draw = np.random.default_rng(0)
        sizes = self.rows, self.evaluation_rows, self.evaluation_rows
        splits = {split: self._drawn(size, draw) for split, size in zip(SPLITS, sizes, strict=True)}
        digest = hashlib.sha256(b''.join(source['tokens'].tobytes() for source in splits.values()))
        origin = Origin('drawn at random', 'none', f'{sum(sizes)} rows of {self.words + 1}')
        return Dataset(name='modular sums', splits=splits, identity=digest.hexdigest(), origin=origin)

    @property
    def vocabulary(self) -> int:
        return self.tokens

    @property
    def length(self) -> int:
        return self.words

    def log_teacher(self, tokens: jax.Array) -> jax.Array:
        """Of what follows each of `tokens` [B, words]: log-probabilities `[B, words, tokens]`."""
        log_style = jnp.asarray(self.style)[tokens]
        right = jax.nn.one_hot(self._sums(tokens), self.tokens, dtype=bool)
        wrong = jnp.where(right, -jnp.inf, log_style[:, -1])
        last = jnp.where(right, jnp.log(self.skill), jnp.log1p(-self.skill) + jax.nn.log_softmax(wrong))
        return log_style.at[:, -1].set(last)

    def table(self) -> Bound:
        """The teacher."""
        return Bound(teachers.oracle(lambda batch: Outputs(self.log_teacher(batch['tokens']))), {})

    def judges(self) -> Mapping[str, Bound]:
        return {JUDGE: self.table()}

    def correct(self, tokens: jax.Array, label: jax.Array) -> jax.Array:
        """1 for each row that is right, float32 `[B]`."""
        return (label[:, -1] == self._sums(tokens)).astype(jnp.float32)

    @functools.cached_property
    def warm(self) -> Output:
        """The student after KL(teacher || student) on the teacher's answers, one for each seed."""
        player = self.player(kl(), steps=self.warm_steps)
        optimizer = self.optimizer(self.warm_steps, 3 * self.learning_rate)
        player = dataclasses.replace(player, optimizer=optimizer)
        stage = self.play({'student': player}, {'teacher': self.table()}, steps=self.warm_steps, name='warm')
        return stage['variables']['student']

    def grouped(self) -> Rollout:
        """`samples` answers of the student to each of the first tokens asked in a batch, one behind the other."""

        def ask(batch: Batch) -> Prompts:
            asked = first_tokens(1)(batch)
            return jax.tree.map(lambda x: jnp.repeat(x[: len(x) // self.samples], self.samples, axis=0), asked)

        return written({'student': self.language_model(self.student)}, ask)

    def play(self, *given: Any, **options: Any) -> Train:
        own = written({'student': self.language_model(self.student)}, first_tokens(1))
        return super().play(*given, evaluated_on=own, **options)

    def evaluated(self) -> Callable[[View], dict[str, jax.Array]]:
        def said(view: View) -> dict[str, jax.Array]:
            answer = view['batch.tokens'], view['batch.label']
            spent = jnp.sum(losses.kl_reverse(view['student'], view[JUDGE]), axis=-1)
            correct, within = self.correct(*answer), (spent <= self.budget).astype(jnp.float32)
            rows = {'correct': correct, 'within': within, 'joint': correct * within, 'spent': spent}
            wide = answer[0].shape
            return said_of_tokens(view) | {n: jnp.broadcast_to(x[:, None], wide) for n, x in rows.items()}

        return said

    def _sums(self, tokens: jax.Array) -> jax.Array:
        return (tokens[:, 0] + tokens[:, -1]) % self.tokens

    def _drawn(self, rows: int, draw: np.random.Generator) -> ArraySource:
        tokens = np.zeros((rows, self.words + 1), np.int32)
        tokens[:, 0] = draw.integers(0, self.tokens, rows)
        for place in range(1, self.words + 1):
            log_probs = np.asarray(self.log_teacher(jnp.asarray(tokens[:, :-1])))[:, place - 1]
            tokens[:, place] = np.argmax(log_probs + draw.gumbel(size=log_probs.shape), axis=-1)
        counted = np.broadcast_to(np.arange(self.words + 1) > 0, tokens.shape).copy()
        return ArraySource({'tokens': tokens, 'segment': np.ones_like(tokens), 'counted': counted})


def grid(runs: Mapping[str, Mapping[str, Any]], names: tuple[str, ...], best: str | None) -> Any:
    """Metrics of several runs, from their predictions by split: the mean, or of the run with most of `best`."""
    found = {
        split: {n: [float(np.mean(said[split][n])) for said in runs.values()] for n in names}
        for split in ('validation', 'test')
    }
    if best is None:
        return {split: {n: float(np.mean(values)) for n, values in of.items()} for split, of in found.items()}
    chosen = int(np.argmax(found['validation'][best]))
    return {split: {n: values[chosen] for n, values in of.items()} for split, of in found.items()}
