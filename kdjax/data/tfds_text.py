"""`tfds:NAME` as a corpus: the text feature of a TFDS data set on this disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from kdjax.data import documents
from kdjax.data.dataset import SPLITS, Origin
from kdjax.data.documents import Document, plain
from kdjax.data.tfds import READ_AT_ONCE, default_folder, open_builder
from kdjax.errors import UserError


def read(name: str, folder: Path | None = None) -> tuple[dict[str, list[Document]], Origin]:
    """Documents by split, and where they come from; the feature `text`, or the only one that is a text.

    Its own `train`, `validation` and `test`; a `validation` without a `test` is the test split, and what is then
    missing is taken out of `train` by the digest of each text. Raises `UserError` where the data set is not on disk,
    not in array_record format, or has no such feature.
    """
    builder = open_builder(name, folder or default_folder())
    info = builder.info
    key = _text_key(name, info.features)
    if 'train' not in info.splits:
        raise UserError(f"data set 'tfds:{name}' has no split 'train'; it has {sorted(info.splits)}")
    whole = {split: _documents(builder, split, key) for split in SPLITS if split in info.splits}
    if 'test' not in whole and 'validation' in whole:
        whole['test'] = whole.pop('validation')
    if len(whole) < len(SPLITS):
        whole = documents.completed(whole, corpus=f'tfds:{name}')
    licence = getattr(info.redistribution_info, 'license', '') or 'see its TFDS page'
    return whole, Origin(source=f'TFDS {info.full_name}', licence=licence, size='')


def _text_key(name: str, features: Any) -> str:
    kinds = {key: type(feature).__name__ for key, feature in features.items()}
    texts = [key for key, kind in kinds.items() if kind == 'Text']
    if 'text' in texts:
        return 'text'
    if len(texts) != 1:
        raise UserError(f"data set 'tfds:{name}' has no feature 'text' and not one Text alone; its features: {kinds}")
    return texts[0]


def _documents(builder: Any, split: str, key: str) -> list[Document]:
    records = builder.as_data_source(split=split)
    starts = range(0, len(records), READ_AT_ONCE)
    chunks = (list(range(start, min(start + READ_AT_ONCE, len(records)))) for start in starts)
    texts = (_bytes(record[key]) for chunk in chunks for record in records.__getitems__(chunk))
    return [plain(hashlib.sha256(text).hexdigest(), text) for text in texts if text.strip()]


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)
