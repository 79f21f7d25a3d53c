"""A corpus as token ids, made once and kept in the cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from kdjax.data.cache import cached
from kdjax.data.corpora import Corpus
from kdjax.data.documents import Document
from kdjax.data.packing import Tokens
from kdjax.data.tokenizers import Tokenizer
from kdjax.errors import UserError

AT_ONCE = 512
"""Documents that are encoded together."""


def tokenized(corpus: Corpus, tokenizer: Tokenizer) -> dict[str, list[Tokens]]:
    """The documents of each split as ids: the tokenizer's prefix, the text, the end of the text (predicted too).

    Parts of an instruction are encoded apart, as they are when the prompt is all there is. Raises `UserError` that
    names the document which cannot be encoded.
    """
    said = f'{corpus.identity} {tokenizer.identity} {tokenizer.prefix} {tokenizer.eos}'
    key = f'tokens-{hashlib.sha256(said.encode()).hexdigest()[:32]}'
    small = np.uint16 if tokenizer.size <= 2**16 else np.int32
    arrays = cached(
        key,
        lambda: {
            f'{split}_{name}': array
            for split, found in corpus.splits.items()
            for name, array in _joined(_encoded(found, tokenizer, corpus.name), small).items()
        },
    )
    return {split: _parted(arrays, split) for split in corpus.splits}


def _encoded(documents: Sequence[Document], tokenizer: Tokenizer, corpus: str) -> list[Tokens]:
    found = []
    for start in range(0, len(documents), AT_ONCE):
        chunk = documents[start : start + AT_ONCE]
        texts = [text for document in chunk for text, _ in document.parts]
        try:
            ids = iter(tokenizer.encode_many(texts))
        except UserError:
            raise _blamed(chunk, tokenizer, corpus) from None
        found += [_tokens(document, [next(ids) for _ in document.parts], tokenizer) for document in chunk]
    return found


def _tokens(document: Document, ids: list[np.ndarray], tokenizer: Tokenizer) -> Tokens:
    pieces = [(np.array(tokenizer.prefix, np.int32), False)]
    pieces += [(part, counted) for part, (_, counted) in zip(ids, document.parts, strict=True)]
    ended = tokenizer.eos is None or (len(ids[-1]) > 0 and ids[-1][-1] == tokenizer.eos)
    if not ended:
        pieces.append((np.array([tokenizer.eos], np.int32), True))
    counted = np.concatenate([np.full(len(part), flag) for part, flag in pieces])
    counted[:1] = False
    return Tokens(np.concatenate([part for part, _ in pieces]), counted, document.instruction)


def _blamed(documents: Sequence[Document], tokenizer: Tokenizer, corpus: str) -> UserError:
    for document in documents:
        try:
            tokenizer.encode_many([text for text, _ in document.parts])
        except UserError as error:
            return UserError(f"document '{document.name}' of corpus '{corpus}': {error}")
    raise AssertionError('documents that fail together fail apart')


def _joined(found: list[Tokens], dtype: type) -> dict[str, np.ndarray]:
    return {
        'ids': np.concatenate([each.ids for each in found]).astype(dtype),
        'counted': np.concatenate([each.counted for each in found]),
        'ends': np.cumsum([len(each.ids) for each in found]),
        'whole': np.array([each.whole for each in found]),
    }


def _parted(arrays: dict[str, np.ndarray], split: str) -> list[Tokens]:
    ends = arrays[f'{split}_ends'][:-1]
    ids, counted = np.split(arrays[f'{split}_ids'].astype(np.int32), ends), np.split(arrays[f'{split}_counted'], ends)
    return [Tokens(*each) for each in zip(ids, counted, arrays[f'{split}_whole'].tolist(), strict=True)]
