"""The same text under two tokenizers: chunks that end at the same byte in both, as columns of fixed length.

A chunk is the shortest run of tokens between two positions at which both tokenizations have a cut. `losses.alm`
compares how likely student and teacher find each. Everything here is NumPy, on the host, once for a data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kdjax.data.tokenizers import Tokenizer, as_bytes
from kdjax.errors import UserError

NONE = -1
"""The chunk of a token that is in none."""


def chunks(student_ends: np.ndarray, teacher_ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The chunk of each token, int32, from 0 in order of the text, the same on both sides; -1 where it is in none.

    ends: for each token the number of bytes of the text up to its end, of `Tokenizer.offsets`; they never fall.
        Tokens at 0 stand before the text (a token of beginning) and are in no chunk, and so are those after the last
        cut that both have (where a side was cut off). A token of no bytes belongs to the chunk before it; to have the
        end of a text compared too, give its token an end one past the text.
    Raises UserError where ends fall.
    Source: greedy alignment by byte offsets, ALM, arXiv 2503.20083.
    """
    student, teacher = _checked('student', student_ends), _checked('teacher', teacher_ends)
    cuts = np.intersect1d(student, teacher)
    cuts = cuts[cuts > 0]
    return _placed(student, cuts), _placed(teacher, cuts)


def predicted(student: np.ndarray, teacher: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chunks of the labels: of tokens 1, 2, ..., which the logits at 0, 1, ... predict.

    Nothing predicts the first token of a row: if it is in a chunk on one side, that chunk, 0, is in neither, because
    likelihoods of different pieces would be compared. The next one is 0 then.
    """
    lost = any(len(ids) and ids[0] == 0 for ids in (student, teacher))
    return student[1:] - (lost & (student[1:] >= 0)), teacher[1:] - (lost & (teacher[1:] >= 0))


def aligned(
    texts: Sequence[str | bytes], student: Tokenizer, teacher: Tokenizer, *, length: int, teacher_length: int
) -> dict[str, np.ndarray]:
    """Columns of one row for each text, tokenized by both; what does not fit is cut off.

    length, teacher_length: predicted tokens of a row, T and S.
    Returns `tokens` [N, T + 1], `segment` (1, 0 for padding), `counted`, the same as `teacher_tokens`,
    `teacher_segment`, `teacher_counted` [N, S + 1]; the chunks of the labels, `chunk` [N, T] and `teacher_chunk`
    [N, S]; `compared` [N, min(T, S)], which chunks there are; `index` [N].

    Each side begins with its tokenizer's `prefix`; texts that fit end with its end of text, which is a chunk of its
    own. Raises UserError where there are no texts, one is empty, or a length is below 1.
    """
    if min(length, teacher_length) < 1:
        raise UserError(f'rows of length={length} and teacher_length={teacher_length}: both are at least 1')
    if not len(texts):
        raise UserError('no texts to align: give at least one')
    rows = [_row(i, text, student, teacher, length, teacher_length) for i, text in enumerate(texts)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]} | {
        'index': np.arange(len(rows), dtype=np.int32)
    }


def pieces(text: str | bytes, size: int) -> list[bytes]:
    """A text cut into pieces of at most `size` bytes, after a space or line end where one is near, inside no character.

    Joined they are the text. Raises UserError for a size below 4, which a character may need.
    """
    if size < 4:
        raise UserError(f'pieces of size={size}: at least 4 bytes, the length of the longest character')
    whole, found, start = as_bytes(text), [], 0
    while start < len(whole):
        end = _cut(whole, start, start + size)
        found.append(whole[start:end])
        start = end
    return found


def _cut(whole: bytes, start: int, end: int) -> int:
    if end >= len(whole):
        return len(whole)
    space = max(whole.rfind(c, start + (end - start) // 2, end) for c in (b' ', b'\n'))
    if space >= 0:
        return space + 1
    while whole[end] & 0xC0 == 0x80 and end > start + 1:
        end -= 1
    return end


def _checked(who: str, ends: Any) -> np.ndarray:
    ends = np.asarray(ends, np.int64)
    falls = np.flatnonzero(np.diff(ends) < 0)
    if len(falls):
        before, here = ends[falls[0] : falls[0] + 2]
        raise UserError(
            f"the {who}'s token {falls[0] + 1} ends at byte {here}, before token {falls[0]} at {before}: sort them"
        )
    return ends


def _placed(ends: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    ids = np.searchsorted(cuts, ends)
    return np.where((ends > 0) & (ids < len(cuts)), ids, NONE).astype(np.int32)


def _row(i: int, text: str | bytes, student: Tokenizer, teacher: Tokenizer, length: int, teacher_length: int):
    size = len(as_bytes(text))
    if not size:
        raise UserError(f'text {i} is empty: leave it out')
    sides = [_side(text, size, t, n) for t, n in ((student, length), (teacher, teacher_length))]
    ids = predicted(*chunks(sides[0][1], sides[1][1]))
    row = {}
    for prefix, (tokens, _), own, time in zip(('', 'teacher_'), sides, ids, (length, teacher_length), strict=True):
        row[f'{prefix}tokens'] = _filled(tokens, time + 1, 0)
        row[f'{prefix}segment'] = _filled(np.ones(len(tokens), np.int32), time + 1, 0)
        row[f'{prefix}counted'] = row[f'{prefix}segment'] > 0
        row[f'{prefix}chunk'] = _filled(own, time, NONE)
    return row | {'compared': np.isin(np.arange(min(length, teacher_length)), ids[0])}


def _side(text: str | bytes, size: int, tokenizer: Tokenizer, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and their ends, at most length + 1 of them."""
    ids, ends = tokenizer.offsets(text)
    last = [] if tokenizer.eos is None else [tokenizer.eos]
    tokens = np.concatenate([np.array(tokenizer.prefix, np.int32), ids, np.array(last, np.int32)])
    ends = np.concatenate([np.zeros(len(tokenizer.prefix), np.int64), ends, np.full(len(last), size + 1)])
    return tokens[: length + 1], ends[: length + 1]


def _filled(row: np.ndarray, time: int, value: int) -> np.ndarray:
    return np.pad(row.astype(np.int32), (0, time - len(row)), constant_values=value)
