"""Documents, and the rule by which they fall into disjoint splits."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

from kdjax.data.dataset import SPLITS
from kdjax.errors import UserError

SHARES = {'test': 0.1, 'validation': 0.1, 'train': 0.8}
RULE = 'by sha256 of the name: a tenth test, a tenth validation'
"""Part of every text data set's identity. To change the rule is to change all data."""


@dataclasses.dataclass(frozen=True)
class Document:
    """A text in parts, each with whether its tokens are to be predicted. name: decides its split.

    An instruction has parts that are not to be predicted; it is never cut in two.
    """

    name: str
    parts: tuple[tuple[bytes, bool], ...]

    @property
    def instruction(self) -> bool:
        return not all(counted for _, counted in self.parts)

    @property
    def text(self) -> bytes:
        return b''.join(text for text, _ in self.parts)

    def __len__(self) -> int:
        return sum(len(text) for text, _ in self.parts)


def plain(name: str, text: bytes) -> Document:
    """A document of which every token is to be predicted."""
    return Document(name, ((text, True),))


def split(documents: Sequence[Document], *, corpus: str) -> dict[str, list[Document]]:
    """Documents by split, each in the order of their digests: a fixed order without meaning.

    The digest of a document's name decides, whatever else there is. Where that leaves a split empty (a single file,
    a handful), every text is cut at line ends into the beginning for train, then validation, then test; instructions
    are dealt out in the order of their digests. Raises `UserError` for fewer than three instructions.
    """
    ordered = sorted(documents, key=lambda document: _place(document.name))
    found: dict[str, list[Document]] = {name: [] for name in SPLITS}
    for document in ordered:
        found[_by_place(_place(document.name))].append(document)
    if all(found.values()):
        return found
    if any(document.instruction for document in documents):
        return _dealt(ordered, corpus)
    cut = [_cut(document) for document in ordered]
    return {name: [pieces[name] for pieces in cut if pieces[name].text.strip()] for name in SPLITS}


def completed(whole: dict[str, list[Document]], *, corpus: str) -> dict[str, list[Document]]:
    """The splits that are there, and those that are missing taken out of train."""
    taken = split(whole['train'], corpus=corpus)
    back = [document for name in SPLITS[1:] if name in whole for document in taken[name]]
    return taken | whole | {'train': taken['train'] + back}


def limit(documents: Sequence[Document], share: float) -> list[Document]:
    """The first documents that hold this share of the bytes; the last text is cut there, at a line end.

    Smaller shares lie inside larger ones.
    """
    wanted = round(share * sum(map(len, documents)))
    kept: list[Document] = []
    for document in documents:
        if wanted <= 0:
            break
        whole = document.instruction or len(document) <= wanted
        kept.append(document if whole else plain(document.name, _head(document.text, wanted)))
        wanted -= len(document)
    return kept


def _place(name: str) -> float:
    """A number in 0..1 that the name alone decides."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], 'big') / 2**64


def _by_place(place: float) -> str:
    if place < SHARES['test']:
        return 'test'
    return 'validation' if place < SHARES['test'] + SHARES['validation'] else 'train'


def _dealt(ordered: list[Document], corpus: str) -> dict[str, list[Document]]:
    if len(ordered) < len(SPLITS):
        raise UserError(f"corpus '{corpus}' has {len(ordered)} examples: three splits need at least three")
    each = max(1, round(len(ordered) * SHARES['test']))
    return {'train': ordered[2 * each :], 'validation': ordered[each : 2 * each], 'test': ordered[:each]}


def _cut(document: Document) -> dict[str, Document]:
    text = document.text
    train = _head(text, round(len(text) * SHARES['train']))
    validation = _head(text[len(train) :], round(len(text) * SHARES['validation']))
    pieces = (train, validation, text[len(train) + len(validation) :])
    return {name: plain(f'{document.name}#{name}', piece) for name, piece in zip(SPLITS, pieces, strict=True)}


def _head(text: bytes, size: int) -> bytes:
    """At least half of the first `size` bytes, up to a line end where there is one, else to a character's end."""
    end = text.rfind(b'\n', size // 2, size) + 1 or size
    start = end
    while end - 3 < start < len(text) and start > 0 and text[start] & 0xC0 == 0x80:
        start -= 1
    return text[:start]
