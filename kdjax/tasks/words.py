"""Which words of a teacher and a student are compared, and in whose ids a text is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.documents import Document
from kdjax.data.text import TextDataset
from kdjax.data.tokenizers import Tokenizer
from kdjax.data.vocabularies import match
from kdjax.errors import UserError
from kdjax.tasks.checkpoints import Loaded

LONGEST = 20_000
"""Bytes of a document that two tokenizers are compared on."""


@dataclasses.dataclass(frozen=True, eq=False)
class Words:
    """tokenizer: the student's, which rows are made with.

    vocab: as in `losses.shared_vocabulary`; 'error' where both vocabularies are the same. ids: with 'intersect', of the
    student and of the teacher. teacher_ids: then also the teacher's id of each of the student's, -1 where it has none.
    """

    tokenizer: Tokenizer
    vocab: str = 'error'
    ids: tuple[np.ndarray, np.ndarray] | None = None
    teacher_ids: np.ndarray | None = None

    def cut(self, student_head: jax.Array, teacher_head: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Both heads `[vocabulary, width]` with the rows that are compared, in one order."""
        if self.ids is not None:
            return student_head[jnp.asarray(self.ids[0])], teacher_head[jnp.asarray(self.ids[1])]
        words = min(len(student_head), len(teacher_head))
        return student_head[:words], teacher_head[:words]


def shared_words(
    teacher: Loaded, student: Loaded, *, tokenizer: Tokenizer | None = None, vocab: str = 'error'
) -> Words:
    """How the two are compared word by word. tokenizer: in place of their own.

    Raises UserError where there is no tokenizer, where one has more tokens than its model, where the tokenizers differ
    and `vocab` is not 'intersect', and where the models' vocabularies differ in size and `vocab` is 'error'.
    """
    ours, theirs = (tokenizer or each.tokenizer for each in (student, teacher))
    ours, theirs = ours or theirs, theirs or ours
    if ours is None or theirs is None:
        raise UserError(f"neither '{teacher.said}' nor '{student.said}' has a tokenizer: give one with --tokenizer")
    for role, model, known in (('teacher', teacher, theirs), ('student', student, ours)):
        if known.size > model.config.vocabulary:
            raise UserError(
                f"the tokenizer has {known.size} tokens, the {role} '{model.said}' {model.config.vocabulary}: it is "
                'the tokenizer of another model'
            )
    if vocab == 'intersect':
        return _intersected(ours, theirs)
    if ours.identity != theirs.identity:
        raise UserError(
            f'the tokenizers of the teacher ({theirs.size} tokens) and of the student ({ours.size}) are not the same, '
            'and this objective compares them token by token: pass --vocab intersect where they cut a text alike, or '
            'use a loss across tokenizers (kdjax.losses.alm, uld) in an experiment'
        )
    sizes = teacher.config.vocabulary, student.config.vocabulary
    if sizes[0] != sizes[1] and vocab == 'error':
        raise UserError(f'teacher has {sizes[0]} tokens, student {sizes[1]}: pass --vocab pad, only padding differs')
    return Words(ours, 'error' if sizes[0] == sizes[1] else 'pad')


def _intersected(ours: Tokenizer, theirs: Tokenizer) -> Words:
    ids = match(ours, theirs)
    table = np.full(ours.size, -1, np.int32)
    table[ids[0]] = ids[1]
    return Words(ours, 'intersect', ids, table)


def check_cuts(words: Words, theirs: Tokenizer, documents: Iterable[Document]) -> None:
    """Raises UserError at the first of these documents that the teacher's tokenizer cuts in another way."""
    assert words.teacher_ids is not None, 'one tokenizer cuts as it cuts'
    for document in documents:
        text = document.text[:LONGEST].decode(errors='ignore')
        if not np.array_equal(words.teacher_ids[words.tokenizer.encode(text)], theirs.encode(text)):
            raise UserError(
                f"document '{document.name}' has other tokens for the teacher than for the student: they cannot be "
                'compared one by one; use a loss across tokenizers (kdjax.losses.alm, uld) in an experiment'
            )


def check_known(words: Words, data: TextDataset) -> None:
    """Raises UserError where rows hold tokens that the teacher lacks, whose context it could not be told."""
    assert words.teacher_ids is not None, 'one tokenizer knows its tokens'
    for split, source in data.splits.items():
        column = source.take(np.arange(len(source)))
        found = column['tokens'][column['segment'] > 0]
        lacking = found[words.teacher_ids[found] < 0]
        if len(lacking):
            token = words.tokenizer.token_bytes[lacking[0]]
            raise UserError(
                f"{len(lacking)} of {len(found)} tokens of split '{split}' are none of the teacher's, {token!r} the "
                'first: leave such texts out, or use a loss across tokenizers in an experiment'
            )
