"""Token sequences of any length -> rows of one length, with a number for each document of a row."""

from __future__ import annotations

import bisect
import collections
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from kdjax.errors import UserError, unknown

MODES = ('stream', 'best_fit')


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
    """One document: ids [n] int32, and counted [n] bool, which of them are to be predicted (the first never is).

    whole: an instruction, which is never cut in two.
    """

    ids: np.ndarray
    counted: np.ndarray
    whole: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """Rows, and what did not fit into them.

    columns: `tokens`, `segment` [rows, length + 1] int32 and `counted` [rows, length + 1] bool. Documents of a row have
    the segments 1, 2, ...; 0 is padding. Column t + 1 is the label of column t, where it is counted.
    long_prompts: instructions left out because no token of a response fits behind their prompt.
    shortened: instructions whose responses were cut off at the end of a row.
    silent: documents left out because they hold nothing to predict.
    """

    columns: dict[str, np.ndarray]
    long_prompts: int = 0
    shortened: int = 0
    silent: int = 0


def pack(documents: Sequence[Tokens], length: int, *, mode: str = 'stream', pad: int = 0) -> Packed:
    """Rows of `length` inputs and their labels; every token to be predicted is the label of one position.

    stream: documents one behind the other, cut where a row ends: no padding but in the last row. A document that
      goes on in the next row has lost what came before.
    best_fit: documents stay whole and are placed longest first, each where it leaves the least room (arXiv
      2404.10830); texts longer than a row are cut into full rows and a rest, instructions are shortened.

    Where a document or the stream is cut, the next row begins with the token before the cut: no label is lost.
    Raises `UserError` for a length below 1, an unknown mode, instructions in a stream, and where no row is left.
    """
    if length < 1:
        raise UserError(f'length={length}: a row needs at least one input')
    if mode not in MODES:
        raise unknown('packing', mode, MODES)
    if mode == 'stream' and any(document.whole for document in documents):
        raise UserError("packing 'stream' would part responses from their prompts: use 'best_fit' for instructions")
    kept, long_prompts, shortened, silent = _fitting(documents, length + 1)
    columns = _stream(kept, length, pad) if mode == 'stream' else _best_fit(kept, length, pad)
    heard = columns['counted'].any(axis=1)
    if not heard.any():
        raise UserError(
            f'all tokens are masked in every row of length={length}: of {len(documents)} documents {long_prompts} have '
            f'prompts as long as a row and {silent} hold nothing to predict; use a longer length or other data'
        )
    return Packed({name: column[heard] for name, column in columns.items()}, long_prompts, shortened, silent)


def _fitting(documents: Sequence[Tokens], room: int) -> tuple[list[Tokens], int, int, int]:
    """What can be packed, and how many documents have too long a prompt, were shortened, hold nothing to predict."""
    counts: collections.Counter[str] = collections.Counter()
    kept = []
    for document in documents:
        long = document.whole and len(document.ids) > room
        if long:
            counts['shortened' if document.counted[:room].any() else 'long_prompts'] += 1
            document = Tokens(document.ids[:room], document.counted[:room], whole=True)
        elif not document.counted.any():
            counts['silent'] += 1
        if document.counted.any():
            kept.append(document)
    return kept, counts['long_prompts'], counts['shortened'], counts['silent']


def _stream(documents: list[Tokens], length: int, pad: int) -> dict[str, np.ndarray]:
    if not documents:
        return _empty(0, length, pad)
    ids, counted = (np.concatenate([getattr(each, name) for each in documents]) for name in ('ids', 'counted'))
    number = np.repeat(np.arange(len(documents)), [len(each.ids) for each in documents])
    starts = np.arange(0, len(ids) - 1, length)[:, None]
    places = starts + np.arange(length + 1)
    real, places = places < len(ids), np.minimum(places, len(ids) - 1)
    counted = counted[places] & real
    counted[:, 0] = False
    return {
        'tokens': np.where(real, ids[places], pad).astype(np.int32),
        'segment': np.where(real, number[places] - number[starts] + 1, 0).astype(np.int32),
        'counted': counted,
    }


def _best_fit(documents: list[Tokens], length: int, pad: int) -> dict[str, np.ndarray]:
    pieces = [piece for document in documents for piece in _pieces(document, length)]
    order = sorted(range(len(pieces)), key=lambda i: -len(pieces[i].ids))
    rows = _placed([len(pieces[i].ids) for i in order], length + 1)
    columns = _empty(max(rows, default=-1) + 1, length, pad)
    filled, documents_of = (np.zeros(len(columns['tokens']), np.int64) for _ in range(2))
    for row, i in zip(rows, order, strict=True):
        piece, start = pieces[i], filled[row]
        stop = start + len(piece.ids)
        documents_of[row] += 1
        columns['tokens'][row, start:stop] = piece.ids
        columns['segment'][row, start:stop] = documents_of[row]
        columns['counted'][row, start + 1 : stop] = piece.counted[1:]
        filled[row] = stop
    return columns


def _pieces(document: Tokens, length: int) -> Iterator[Tokens]:
    for start in range(0, len(document.ids) - 1, length):
        yield Tokens(document.ids[start : start + length + 1], document.counted[start : start + length + 1])


def _placed(sizes: list[int], room: int) -> list[int]:
    """The row of each piece: the one with the least room that is enough, else a new one. A function of the sizes."""
    rows: list[int] = []
    open_rows: dict[int, list[int]] = {}
    spaces: list[int] = []
    count = 0
    for size in sizes:
        at = bisect.bisect_left(spaces, size)
        if at == len(spaces):
            row, space = count, room
            count += 1
        else:
            space = spaces[at]
            row = open_rows[space].pop()
            if not open_rows[space]:
                del open_rows[space], spaces[at]
        rows.append(row)
        if space - size not in open_rows:
            open_rows[space - size] = []
            bisect.insort(spaces, space - size)
        open_rows[space - size].append(row)
    return rows


def _empty(rows: int, length: int, pad: int) -> dict[str, np.ndarray]:
    shape = (rows, length + 1)
    return {
        'tokens': np.full(shape, pad, np.int32),
        'segment': np.zeros(shape, np.int32),
        'counted': np.zeros(shape, bool),
    }
