"""A corpus under two tokenizers: one short text a row, with the columns of `kdjax.data.alignment.aligned`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from kdjax.data import corpora
from kdjax.data.alignment import NONE, aligned, pieces
from kdjax.data.dataset import SPLITS, ArraySource, Source
from kdjax.data.documents import Document
from kdjax.data.text import TextDataset
from kdjax.data.tokenizers import Tokenizer
from kdjax.errors import UserError

TEACHER = 'teacher_'
"""What the teacher reads stands under this."""


def load_aligned(
    spec: str,
    *,
    student: Tokenizer,
    teacher: Tokenizer,
    length: int,
    teacher_length: int,
    text_bytes: int,
    rows: int,
    evaluation_rows: int,
    limit_bytes: int | None = None,
) -> TextDataset:
    """The first texts of each split as the student reads them, with the teacher's columns under `teacher_`.

    Documents are cut into texts of at most `text_bytes`, where a word ends; since none of these cuts ends a document,
    the end of a text is not to be predicted and in no chunk. length, teacher_length: inputs of a row; what does not fit
    is cut off. Raises `UserError` where a split has fewer texts than rows.
    """
    corpus = corpora.load(spec, limit_bytes=limit_bytes)
    columns = {}
    for split in SPLITS:
        wanted = rows if split == 'train' else evaluation_rows
        texts = _texts(corpus.splits[split], text_bytes, wanted if split == 'train' else None)
        if len(texts) < wanted:
            raise UserError(f"{wanted} texts of {text_bytes} bytes: split '{split}' of '{spec}' has {len(texts)}")
        spaced = [texts[i * len(texts) // wanted] for i in range(wanted)]
        both = aligned(spaced, student, teacher, length=length, teacher_length=teacher_length)
        columns[split] = _without_ends(both, {'': student, TEACHER: teacher})
    return TextDataset(
        name=spec, splits={split: ArraySource(each) for split, each in columns.items()},
        identity=_identity(columns, student, teacher), origin=corpus.origin, tokenizer=student, length=length,
    )  # fmt: skip


def teachers_side(dataset: TextDataset, tokenizer: Tokenizer) -> TextDataset:
    """The teacher's columns alone, under their plain names."""

    def side(source: Source) -> ArraySource:
        columns = source.take(np.arange(len(source)))
        return ArraySource({name: columns[TEACHER + name] for name in ('tokens', 'segment', 'counted')})

    splits = {split: side(source) for split, source in dataset.splits.items()}
    length = splits['train']['tokens'].shape[1] - 1
    identity = hashlib.sha256(f'{dataset.identity} teacher'.encode()).hexdigest()
    return dataclasses.replace(dataset, splits=splits, identity=identity, tokenizer=tokenizer, length=length)


def _texts(documents: Sequence[Document], size: int, most: int | None) -> list[bytes]:
    found: list[bytes] = []
    for document in documents:
        if most is not None and len(found) >= most:
            break
        found += [piece for piece in pieces(document.text.decode(errors='ignore'), size) if piece.strip()]
    return found[:most]


def _without_ends(columns: Mapping[str, np.ndarray], tokenizers: Mapping[str, Tokenizer]) -> dict[str, np.ndarray]:
    found = {name: column for name, column in columns.items() if name != 'index'}
    for side, tokenizer in tokenizers.items():
        ends = found[f'{side}tokens'] == (NONE if tokenizer.eos is None else tokenizer.eos)
        found[f'{side}counted'] = found[f'{side}counted'] & ~ends
        found[f'{side}chunk'] = np.where(ends[:, 1:], NONE, found[f'{side}chunk'])
    numbers = np.arange(found['compared'].shape[1])
    return found | {'compared': np.stack([np.isin(numbers, row) for row in found['chunk']])}


def _identity(columns: Mapping[str, Mapping[str, np.ndarray]], student: Tokenizer, teacher: Tokenizer) -> str:
    digest = hashlib.sha256(f'{student.identity} {teacher.identity}\n'.encode())
    for split, found in columns.items():
        for name, column in sorted(found.items()):
            digest.update(f'{split} {name} {column.dtype} {column.shape}\n'.encode())
            digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()
