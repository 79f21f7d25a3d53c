"""Task `drafting`: a small decoder drafts for a large one, and is measured by what it saves it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.algorithm import Batch
from kdjax.algorithms.rollouts import Rollout, unrolled
from kdjax.algorithms.stored_texts import write
from kdjax.algorithms.writing import continued, first_tokens, written
from kdjax.data.dataset import ArraySource, Source, in_rows
from kdjax.data.text import TextDataset
from kdjax.decoding import Prompts, speculate
from kdjax.objectives import hard_labels
from kdjax.stage import Compute, Output, Train
from kdjax.tasks.byte_lm import ByteLM
from kdjax.tasks.language import JUDGE, measure, said_of_tokens
from kdjax.tasks.task import Bound
from kdjax.view import View

COLUMNS = {'tokens': np.int32, 'segment': np.int32, 'counted': np.bool_}
"""Of a text split."""

COUNTS = ('passes', 'tested', 'accepted')
"""What `kdjax.decoding.Speculated` counts in each row."""


@dataclasses.dataclass(frozen=True)
class Drafting(ByteLM):
    """Students draft for the task's teacher, the target.

    Held-out rows are prompts of `prompt` tokens, which the target continues to full rows at temperature 1, with
    `drafts` tokens of the student a round. Along these texts, which have the target's law whatever the student, it is
    measured as `Language` says, and besides

        block_length    tokens for each pass of the target, in [1, drafts + 1]
        acceptance      of the drafts that were put to the test, how many stood; `overlap` is its exact mean

    The prompts are the same for all, the texts are drawn anew. noise: the share of bytes, of all texts, that are
    replaced by random ones, which no model can foresee.
    """

    row: int = 64
    student: str = 'llama-16-1'
    teacher: str = 'llama-64-2'
    teacher_steps: int = 1000
    steps: int = 300
    evaluations: int = 1
    prompt: int = 16
    drafts: int = 4
    pretraining_steps: int = 400
    noise: float = 0.0

    @functools.cached_property
    def teacher_data(self) -> TextDataset:
        whole = super().teacher_data
        return with_noise(whole, self.noise) if self.noise else whole

    @functools.cached_property
    def draft(self) -> Output:
        """Trained on the next token of the student's rows, one for each seed: what all arms start from."""
        stage = self.play(
            {'student': self.player(hard_labels(), steps=self.pretraining_steps)},
            steps=self.pretraining_steps,
            name='draft',
        )
        return stage['variables']['student']

    def arm(self, *given: Any, start: Output | None = None, **options: Any) -> Train:
        return super().arm(*given, start=start or self.draft, **options)

    def play(self, *given: Any, **options: Any) -> Train:
        target, student = self.language_model(self.teacher), self.language_model(self.student)

        def speculated(memory: Any, batch: Batch, lookup: Callable[[str], Any], *, step: Any, key: jax.Array):
            asked = first_tokens(self.prompt)(batch)
            said = speculate(
                target, lookup(JUDGE), student, lookup('student'),
                Prompts(asked.tokens, asked.given.at[:, -1].set(True)),
                key=key, max_new=self.row + 1 - self.prompt, drafts=self.drafts,
            )  # fmt: skip
            silent = jnp.zeros(said.tokens.shape, jnp.float32)
            counts = {name: getattr(said, name) for name in COUNTS}
            return unrolled(batch) | continued(asked, said.tokens, said.lengths, silent) | counts, memory

        return super().play(*given, evaluated_on=Rollout(speculated), **options)

    def told(self) -> Bound:
        """The target beside the student, with texts for `stored_texts('texts')`: what it says itself after the prompts
        of the training split, written once for all seeds.
        """
        live, data = self.live_teacher(), self.data
        writer = written({'teacher': self.language_model(self.teacher)}, first_tokens(self.prompt))
        stage = Compute(
            name='texts', module=__name__, config={'teacher': self.teacher, 'prompt': self.prompt},
            inputs=live.inputs, shared=True, data=data,
            call=lambda inputs, *, key: write(data['train'], self.prepared(), writer, inputs, key=key),
            shapes=lambda inputs: _text_shapes(len(data['train']), self.row),
        )  # fmt: skip
        return dataclasses.replace(live, inputs={**live.inputs, 'texts': Output(stage)})

    def own_texts(self) -> Rollout:
        """Rows are prompts, and the student says what follows."""
        return written({'student': self.language_model(self.student)}, first_tokens(self.prompt))

    def evaluated(self) -> Callable[[View], dict[str, jax.Array]]:
        return said_of_drafts

    def measure(self) -> Callable[..., dict[str, float]]:
        return measure_drafts


def with_noise(dataset: TextDataset, share: float) -> TextDataset:
    """A share of the tokens replaced by any of the vocabulary, the same whenever it is asked for."""
    draw = np.random.default_rng(0)

    def noisy(source: Source) -> ArraySource:
        columns = in_rows(source, np.arange(len(source))).columns
        tokens = columns['tokens']
        other = draw.integers(0, dataset.vocabulary, tokens.shape, tokens.dtype)
        return ArraySource({**columns, 'tokens': np.where(draw.random(tokens.shape) < share, other, tokens)})

    identity = hashlib.sha256(f'{dataset.identity} noise {share}'.encode()).hexdigest()
    splits = {name: noisy(source) for name, source in dataset.splits.items()}
    return dataclasses.replace(dataset, splits=splits, identity=identity)


def said_of_drafts(view: View) -> dict[str, jax.Array]:
    """Of the tokens, and of what the rows cost the target."""
    return said_of_tokens(view) | {name: view[f'batch.{name}'] for name in COUNTS}


def measure_drafts(said: Mapping[str, np.ndarray], reference: None) -> dict[str, float]:
    """Metrics of tokens, the length of blocks and the rate of acceptance over all rows."""
    passes, tested, accepted = (float(np.sum(said[name])) for name in COUNTS)
    tokens = {name: values for name, values in said.items() if name not in COUNTS}
    written = float(np.sum(said['where']))
    return measure(tokens, reference) | {'block_length': written / passes, 'acceptance': accepted / tested}


def _text_shapes(rows: int, length: int) -> dict[str, jax.ShapeDtypeStruct]:
    columns = {name: jax.ShapeDtypeStruct((rows, length + 1), dtype) for name, dtype in COLUMNS.items()}
    return columns | {'behaviour': jax.ShapeDtypeStruct((rows, length), np.float32)}
