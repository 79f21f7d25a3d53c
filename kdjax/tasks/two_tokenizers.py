"""Task `two tokenizers`: a teacher that reads pieces of words, students that read bytes of the same texts."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kdjax import data, losses, teachers
from kdjax.algorithms.players import Prepare
from kdjax.data.aligned_text import TEACHER, load_aligned, teachers_side
from kdjax.data.text import TextDataset
from kdjax.data.text_batch import prepare_text
from kdjax.data.tokenizers import ByteTokenizer
from kdjax.data.vocabularies import starts
from kdjax.objectives import Objective, term
from kdjax.tasks.byte_lm import ByteLM
from kdjax.tasks.language import JUDGE, Language, of_tokens
from kdjax.tasks.task import Bound, Trained
from kdjax.view import View

EACH = 4
LABELS = ('label', 'where', 'chunk')


@dataclasses.dataclass(frozen=True)
class TwoTokenizers(ByteLM):
    """Texts of at most `row` bytes, one a row; the teacher reads them under a tokenizer learned from the corpus.

    teacher_tokenizer: as in `kdjax.data.load_text`; teacher_row, teacher_batch: the teacher's tokens in
    a row, and rows in a batch.

    Arms are measured on the bytes that lie in chunks (all but the first few of a row): what `Language` measures without
    the teacher, `bits_per_byte`; `teacher_bits`, the teacher's on the same bytes; `gap`, |log p - log s| of the chunks
    in nats, divided by their bytes.
    """

    teacher_tokenizer: str = 'bpe:512'
    teacher_row: int = 80
    teacher_batch: int = 32

    @functools.cached_property
    def teacher_data(self) -> TextDataset:
        return data.load_text(
            self.corpus, tokenizer=self.teacher_tokenizer, length=self.teacher_row, limit_bytes=self.limit_bytes,
            evaluation_rows=self.evaluation_rows,
        )  # fmt: skip

    @functools.cached_property
    def data(self) -> TextDataset:
        return load_aligned(
            self.corpus, student=ByteTokenizer(), teacher=self.teacher_data.tokenizer, length=self.row,
            teacher_length=self.teacher_row, text_bytes=self.row, rows=self.rows, evaluation_rows=self.evaluation_rows,
            limit_bytes=self.limit_bytes,
        )  # fmt: skip

    @property
    def vocabulary(self) -> int:
        return ByteTokenizer().size

    @functools.cached_property
    def reader(self) -> Reader:
        """The task of the teacher: its own tokens."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(Language)}
        tokenizer = self.teacher_data.tokenizer
        shared |= {'batch': self.teacher_batch}
        return Reader(**shared, learned=self.teacher_data, texts=teachers_side(self.data, tokenizer))

    @functools.cached_property
    def trained_teacher(self) -> Trained:
        return self.reader.trained_teacher

    def cached_teacher(self, trained: Trained | None = None, *, name: str = 'teacher') -> Bound:
        return self.reader.cached_teacher(trained, name=name)

    def live_teacher(self, trained: Trained | None = None, *, name: str = 'teacher') -> Bound:
        trained = trained or self.trained_teacher
        reads = tuple(f'batch.{TEACHER}{column}' for column in ('tokens', 'segment', 'position'))
        teacher = teachers.live(trained.model, weights=name, reads=reads)
        return Bound(teacher, {name: trained.variables}, (trained.model,))

    def prepared(self) -> Prepare:
        return prepare

    def evaluated(self) -> Callable[[View], dict[str, jax.Array]]:
        return said_of_bytes

    def alm(self, *, temperature: float = 100.0, debiased: bool = True) -> Objective:
        """`losses.alm` of the chunks, times the temperature, so that its gradients do not shrink with it.

        debiased: chunks are merged until the teacher expects a word to begin, and are as likely as they are together
        with that ('merge_by_space_prob', 'append_space'). Both ways it is divided by the number of chunks unmerged.
        """
        begins = tuple(map(starts, (ByteTokenizer(), self.teacher_data.tokenizer))) if debiased else None
        return term(
            _alm, *_said('student', ''), *_said('teacher', TEACHER), 'batch.compared', name='alm',
            where='batch.compared', temperature=temperature, begins=begins,
        )  # fmt: skip

    def uld(self) -> Objective:
        """`losses.uld` at the first token of every fourth chunk, where both sides have read the same bytes.

        Sorting the words of every chunk would take longer than all else in a step.
        """
        reads = 'student', 'batch.chunk', 'teacher', f'batch.{TEACHER}chunk', 'batch.fourth'
        return term(_uld, *reads, name='uld', where='batch.fourth')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader(Language):
    """The teacher's side of `TwoTokenizers`. texts: what it is read on; learned: what it is trained on."""

    texts: TextDataset
    learned: TextDataset

    @property
    def data(self) -> TextDataset:
        return self.texts

    @property
    def teacher_data(self) -> TextDataset:
        return self.learned

    @property
    def vocabulary(self) -> int:
        return self.learned.vocabulary

    @property
    def length(self) -> int:
        return self.learned.length


def prepare(batch: Mapping[str, Any], *, key: jax.Array, train: bool) -> dict[str, Any]:
    """Inputs, labels and masks of both sides; `fourth`, which of every fourth chunk there are."""
    del key, train
    whole = {'where': batch['where']} if 'where' in batch else {}
    columns = ('tokens', 'segment', 'counted')
    theirs = prepare_text({name: batch[TEACHER + name] for name in columns} | whole)
    fourth = batch['compared'][:, ::EACH]
    return prepare_text(batch) | {TEACHER + name: column for name, column in theirs.items()} | {'fourth': fourth}


def said_of_bytes(view: View) -> dict[str, jax.Array]:
    """What is measured of each byte of a chunk; of the chunk, its share."""
    chunk, chunks = view['batch.chunk'], view['batch.compared'].shape[-1]
    where = view['batch.where'] & (chunk >= 0)
    sides = _said('student', ''), _said(JUDGE, TEACHER)
    ours, theirs = (_likelihoods([view[address] for address in side], chunks) for side in sides)
    size = losses.chunk_log_probs(jnp.where(where, 1.0, 0.0), chunk, chunks=chunks)

    def shares(values: jax.Array) -> jax.Array:
        return jnp.take_along_axis(values / jnp.maximum(size, 1.0), jnp.maximum(chunk, 0), axis=-1)

    return of_tokens(view['student'], view['batch.label']) | {
        'where': where,
        'bytes': jnp.ones_like(where, jnp.float32),
        'teacher_bits': shares(-theirs) / math.log(2),
        'gap': shares(jnp.abs(theirs - ours)),
    }


def _said(player: str, side: str) -> tuple[str, ...]:
    return player, *(f'batch.{side}{name}' for name in LABELS)


def _likelihoods(said: Sequence[jax.Array], chunks: int) -> jax.Array:
    """Of each chunk, from what `_said` names."""
    logits, label, where, chunk = said
    return losses.chunk_log_probs(-losses.cross_entropy(logits, label, where=where), chunk, chunks=chunks)


def _alm(*said: Any, temperature: float, begins: tuple[Any, Any] | None) -> jax.Array:
    sides, chunks = (said[:4], said[4:8]), said[8].shape[-1]
    ours, theirs = (_likelihoods(side, chunks) for side in sides)
    if begins is not None:
        after = [
            losses.last_of_chunks(
                losses.boundary_log_probs(logits, jnp.asarray(begin), where), chunk, chunks=chunks
            )
            for (logits, _, where, chunk), begin in zip(sides, begins, strict=True)
        ]
        longer = losses.merged_chunks(after[1])
        ours, theirs = (
            losses.chunk_log_probs(values, longer, chunks=chunks) + losses.last_of_chunks(end, longer, chunks=chunks)
            for values, end in zip((ours, theirs), after, strict=True)
        )
    return temperature * losses.alm(ours, theirs, temperature=temperature)


def _uld(student: Any, chunk: Any, teacher: Any, teacher_chunk: Any, fourth: Any) -> jax.Array:
    def first(logits: jax.Array, numbers: jax.Array) -> jax.Array:
        asked = jnp.where(numbers % EACH == 0, numbers // EACH, -1)
        return losses.first_of_chunks(logits, asked, chunks=fourth.shape[-1])

    return losses.uld(first(student, chunk), first(teacher, teacher_chunk), where=fourth)
