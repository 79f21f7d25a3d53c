"""`load_text('stdlib', tokenizer='bytes', length=256)`: from the name of a corpus to rows of tokens."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kdjax.data import corpora, instructions
from kdjax.data.cache import cached
from kdjax.data.corpora import Corpus
from kdjax.data.dataset import ArraySource, Dataset
from kdjax.data.packing import Packed, pack
from kdjax.data.tokenized import tokenized
from kdjax.data.tokenizers import BPETokenizer, ByteTokenizer, Tokenizer
from kdjax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class TextDataset(Dataset):
    """Rows of tokens: `tokens`, `segment`, `counted` [rows, length + 1], see `packing.Packed` and `prepare_text`.

    notes: what was left out, in words.
    """

    tokenizer: Tokenizer
    length: int
    notes: tuple[str, ...] = ()

    @property
    def vocabulary(self) -> int:
        return self.tokenizer.size


def load_text(
    spec: str,
    *,
    tokenizer: Tokenizer | str,
    length: int,
    packing: str | None = None,
    limit_bytes: int | None = None,
    evaluation_rows: int | None = None,
    template: str = instructions.CHATML,
) -> TextDataset:
    """Load a corpus as rows of `length` inputs; its texts are encoded once and kept in the cache folder.

    spec, template, limit_bytes: see `corpora.load`.
    tokenizer: a `Tokenizer`, or `bytes`, `bpe:SIZE` (learned from the train split), or the path of a tokenizer.json or
      of a checkpoint's folder.
    packing: see `packing.pack`; None: a stream of texts, the best fit of instructions.
    evaluation_rows: keep that many rows of validation and of test, evenly spaced.

    What is left out is warned of, and in `notes`. Raises `UserError` for what `corpora.load`, the tokenizer and `pack`
    refuse, and for fewer rows than evaluation_rows.
    """
    corpus = corpora.load(spec, template=template, limit_bytes=limit_bytes)
    tokenizer = _tokenizer(tokenizer, corpus)
    packed = {}
    for split, documents in tokenized(corpus, tokenizer).items():
        whole = any(document.whole for document in documents)
        mode = packing or ('best_fit' if whole else 'stream')
        pad = next(i for i in (tokenizer.pad, tokenizer.eos, 0) if i is not None)
        try:
            packed[split] = pack(documents, length, mode=mode, pad=pad)
        except UserError as error:
            raise UserError(f"split '{split}' of corpus '{spec}': {error}") from None
    columns = {split: each.columns for split, each in packed.items()}
    if evaluation_rows is not None:
        for split in ('validation', 'test'):
            columns[split] = _spaced(columns[split], evaluation_rows, f"split '{split}' of corpus '{spec}'")
    notes = tuple(note for split, each in packed.items() for note in _notes(split, each, length))
    for note in notes:
        warnings.warn(f"corpus '{spec}': {note}", stacklevel=2)
    return TextDataset(
        name=spec,
        splits={split: ArraySource(each) for split, each in columns.items()},
        identity=_identity(columns, tokenizer),
        origin=corpus.origin,
        tokenizer=tokenizer,
        length=length,
        notes=notes,
    )


def _tokenizer(asked: Tokenizer | str, corpus: Corpus) -> Tokenizer:
    if not isinstance(asked, str):
        return asked
    kind, _, size = asked.partition(':')
    if asked == 'bytes':
        return ByteTokenizer()
    if kind == 'bpe' and size.isdigit():
        return _learned(corpus, int(size))
    if Path(asked).expanduser().exists():
        return BPETokenizer.from_file(Path(asked).expanduser())
    raise UserError(f"tokenizer '{asked}': it is neither 'bytes' nor 'bpe:SIZE', and no such file or folder exists")


def _learned(corpus: Corpus, size: int) -> BPETokenizer:
    """BPE of the train split, learned once."""

    def learn() -> dict[str, np.ndarray]:
        learned = BPETokenizer.train((document.text for document in corpus.splits['train']), size)
        return {'json': np.frombuffer(learned.inner.to_str().encode(), np.uint8)}

    return BPETokenizer.from_json(cached(f'bpe-{size}-{corpus.identity[:32]}', learn)['json'].tobytes().decode())


def _spaced(columns: dict[str, np.ndarray], rows: int, place: str) -> dict[str, np.ndarray]:
    here = len(columns['tokens'])
    if not 1 <= rows <= here:
        raise UserError(f'evaluation_rows={rows} of {place}: choose from 1 to {here}')
    chosen = np.arange(rows) * here // rows
    return {name: column[chosen] for name, column in columns.items()}


def _notes(split: str, packed: Packed, length: int) -> Iterator[str]:
    if packed.long_prompts:
        yield f'{packed.long_prompts} of {split} left out, their prompts leave no room in rows of length={length}'
    if packed.shortened:
        yield f'{packed.shortened} of {split} have responses cut off at length={length}'
    if packed.silent:
        yield f'{packed.silent} of {split} left out, they hold nothing to predict'


def _identity(columns: dict[str, dict[str, np.ndarray]], tokenizer: Tokenizer) -> str:
    digest = hashlib.sha256(f'{tokenizer.identity}\n'.encode())
    for split, found in columns.items():
        for name, column in found.items():
            digest.update(f'{split} {name} {column.dtype} {column.shape}\n'.encode())
            digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()
