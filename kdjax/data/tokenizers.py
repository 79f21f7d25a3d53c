"""Text to token ids and back: bytes, and byte-pair encodings of public models."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from kdjax.data import byte_level, gguf_vocabulary
from kdjax.errors import UserError

END_OF_TEXT = '<|endoftext|>'
USUAL = {
    'bos': ('<s>', '<|begin_of_text|>', '<bos>', '[CLS]'),
    'eos': (END_OF_TEXT, '</s>', '<|end_of_text|>', '<eos>', '[SEP]'),
    'pad': ('<pad>', '[PAD]', '<|pad|>'),
}
"""The special tokens of public models, for a tokenizer.json that comes without its tokenizer_config.json."""
ALIASES = {'bos': 'cls_token', 'eos': 'sep_token'}
PROBE = "It's WE'LL  1234\t\n\n def f(x):\n    return x**2  # naïve ‘Ωμέγα’ 東京 🙂 …\r\n<tag/>"


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids 0..size-1. What cannot be encoded, and ids out of range, are a `UserError`.

    identity: sha256 of what decides how text becomes ids, whatever file it came from.
    token_bytes: the bytes that each id stands for. prefix: ids that stand before every text (Llama's, BERT's).
    offsets: ids, and for each the number of the text's bytes up to its end.
    """

    @property
    def size(self) -> int: ...
    @property
    def identity(self) -> str: ...
    @property
    def token_bytes(self) -> tuple[bytes, ...]: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def eos(self) -> int | None: ...
    @property
    def pad(self) -> int | None: ...
    @property
    def prefix(self) -> tuple[int, ...]: ...

    def encode(self, text: str | bytes) -> np.ndarray: ...
    def encode_many(self, texts: Sequence[str | bytes]) -> list[np.ndarray]: ...
    def decode(self, ids: Sequence[int] | np.ndarray) -> bytes: ...
    def offsets(self, text: str | bytes) -> tuple[np.ndarray, np.ndarray]: ...
    def save(self, folder: Path) -> None: ...


def as_text(text: str | bytes) -> str:
    """A string, from UTF-8 where it is bytes. Raises `UserError` for bytes, or characters, that are not UTF-8."""
    if isinstance(text, bytes):
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f'byte {text[error.start]:#04x} at position {error.start} is not UTF-8 text: '
                f'repair it, or use the byte tokenizer, which takes any bytes'
            ) from None
    as_bytes(text)
    return text


def as_bytes(text: str | bytes) -> bytes:
    """UTF-8. Raises `UserError` for a string with a lone surrogate, which has none."""
    try:
        return text if isinstance(text, bytes) else text.encode()
    except UnicodeEncodeError as error:
        where = f'{text[error.start]!r} at position {error.start}'
        raise UserError(f'character {where} is a lone surrogate, no Unicode text: repair it') from None


def checked_ids(ids: Sequence[int] | np.ndarray, size: int) -> np.ndarray:
    """int64 ids, or a `UserError` that names the first that is out of range."""
    found = np.asarray(ids, np.int64)
    bad = np.flatnonzero((found < 0) | (found >= size))
    if len(bad):
        raise UserError(f'token id {found[bad[0]]} at position {bad[0]} is not in 0..{size - 1}: another tokenizer?')
    return found


@dataclasses.dataclass(frozen=True)
class ByteTokenizer:
    """The 256 bytes, and 256 for the end of a text. Takes any bytes; strings as UTF-8."""

    size: int = dataclasses.field(default=257, init=False)
    bos: int | None = dataclasses.field(default=None, init=False)
    eos: int | None = dataclasses.field(default=256, init=False)
    pad: int | None = dataclasses.field(default=None, init=False)
    prefix: tuple[int, ...] = dataclasses.field(default=(), init=False)

    @property
    def identity(self) -> str:
        return hashlib.sha256(b'kdjax bytes, 256 ends a text').hexdigest()

    @property
    def token_bytes(self) -> tuple[bytes, ...]:
        return (*(bytes([byte]) for byte in range(256)), b'')

    def encode(self, text: str | bytes) -> np.ndarray:
        return np.frombuffer(as_bytes(text), np.uint8).astype(np.int32)

    def encode_many(self, texts: Sequence[str | bytes]) -> list[np.ndarray]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int] | np.ndarray) -> bytes:
        ids = checked_ids(ids, self.size)
        return ids[ids < 256].astype(np.uint8).tobytes()

    def offsets(self, text: str | bytes) -> tuple[np.ndarray, np.ndarray]:
        ids = self.encode(text)
        return ids, np.arange(1, len(ids) + 1, dtype=np.int64)

    def save(self, folder: Path) -> None:
        """Nothing: there is no file that public libraries would read as this tokenizer."""


@dataclasses.dataclass(frozen=True, eq=False)
class BPETokenizer:
    """A `tokenizers.Tokenizer`, which is BPE in all current language models; BERT's WordPiece works too.

    settings: what tokenizer_config.json holds: the special tokens, the chat template. Special tokens that are
    written out in a text become their ids.
    """

    inner: Any
    settings: Mapping[str, Any]

    @classmethod
    def from_file(cls, path: str | Path) -> BPETokenizer:
        """Read a tokenizer.json, or the one in a checkpoint's folder, with the tokenizer_config.json beside it."""
        file = Path(path) / 'tokenizer.json' if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise UserError(f"'{file}' does not exist: a tokenizer is read from the tokenizer.json of a checkpoint")
        beside = file.with_name('tokenizer_config.json')
        try:
            settings = json.loads(beside.read_bytes()) if beside.is_file() else {}
        except ValueError as error:
            raise UserError(f"'{beside}' is not JSON: {error}") from None
        try:
            return cls.from_json(file.read_bytes().decode(), settings)
        except Exception as error:  # the package raises nothing narrower
            raise UserError(f"'{file}' is not a tokenizer.json: {error}") from None

    @classmethod
    def from_json(cls, description: str, settings: Mapping[str, Any] | None = None) -> BPETokenizer:
        """Of the text of a tokenizer.json, such as `inner.to_str()`."""
        import tokenizers

        inner = tokenizers.Tokenizer.from_str(description)
        inner.no_padding()
        inner.no_truncation()
        return cls(inner, settings or {})

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> BPETokenizer:
        """Build the byte-level BPE of a GGUF file from its metadata (`tokenizer.ggml.tokens`, `.merges`, `.pre` ...).

        Raises `UserError` for a vocabulary of another kind than 'gpt2', for one with parts missing, and for a
        pre-tokenizer that is not in `byte_level.PATTERNS`.
        """
        return cls(*gguf_vocabulary.read(metadata))

    @classmethod
    def train(cls, corpus: Iterable[str | bytes], size: int) -> BPETokenizer:
        """Learn byte-level BPE from texts, digits apart, with one special token that ends a text.

        The same texts give the same tokenizer. Raises `UserError` where they hold too little to learn `size` entries.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if size <= 257:
            raise UserError(f'a BPE vocabulary of size={size}: it needs more than 257, the bytes and the end of a text')
        inner = Tokenizer(models.BPE())
        inner.pre_tokenizer = byte_level.pretokenizer('smollm')
        inner.decoder = decoders.ByteLevel()
        letters = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=[END_OF_TEXT], initial_alphabet=letters, show_progress=False
        )
        inner.train_from_iterator(map(as_text, corpus), trainer)
        if inner.get_vocab_size() < size:
            raise UserError(f'the corpus gives {inner.get_vocab_size()} entries, not size={size}: use more text')
        return cls(inner, {'eos_token': END_OF_TEXT, 'bos_token': None, 'pad_token': None})

    @functools.cached_property
    def size(self) -> int:
        return max(self.inner.get_vocab(with_added_tokens=True).values()) + 1

    @functools.cached_property
    def identity(self) -> str:
        """Of the tokens, the merges and the ids of a text that exercises the cuts: the same from any kind of file."""
        merges = self._description['model'].get('merges') or []
        pairs = [merge.split(' ') if isinstance(merge, str) else list(merge) for merge in merges]
        vocabulary = self.inner.get_vocab(with_added_tokens=True)
        said = [sorted(vocabulary, key=vocabulary.get), pairs, self.encode(PROBE).tolist()]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    @functools.cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        added = {i: token.content for i, token in self.inner.get_added_tokens_decoder().items()}
        found = {i: token for token, i in self.inner.get_vocab(with_added_tokens=True).items()}
        plain = _byte_level if self._is_byte_level else _surface
        return tuple(added[i].encode() if i in added else plain(found.get(i, '')) for i in range(self.size))

    bos = property(lambda self: self._special('bos'))
    eos = property(lambda self: self._special('eos'))
    pad = property(lambda self: self._special('pad'))

    @functools.cached_property
    def prefix(self) -> tuple[int, ...]:
        plain, full = (self.inner.encode('a', add_special_tokens=special).ids for special in (False, True))
        return tuple(full[: full.index(plain[0])] if plain[0] in full else ())

    def encode(self, text: str | bytes) -> np.ndarray:
        return np.array(self.inner.encode(as_text(text), add_special_tokens=False).ids, np.int32)

    def encode_many(self, texts: Sequence[str | bytes]) -> list[np.ndarray]:
        found = self.inner.encode_batch_fast([as_text(text) for text in texts], add_special_tokens=False)
        return [np.array(each.ids, np.int32) for each in found]

    def decode(self, ids: Sequence[int] | np.ndarray) -> bytes:
        ids = checked_ids(ids, self.size).tolist()
        if self._is_byte_level:
            return b''.join(self.token_bytes[i] for i in ids)
        return self.inner.decode(ids, skip_special_tokens=False).encode()

    def offsets(self, text: str | bytes) -> tuple[np.ndarray, np.ndarray]:
        text = as_text(text)
        found = self.inner.encode(text, add_special_tokens=False)
        ids = np.array(found.ids, np.int32)
        ends = np.cumsum([len(self.token_bytes[i]) for i in found.ids], dtype=np.int64)
        whole = int(ends[-1]) if len(ends) else 0
        if self._is_byte_level and whole == len(text.encode()):
            return ids, ends
        characters = np.cumsum([0] + [len(character.encode()) for character in text], dtype=np.int64)
        return ids, characters[np.array([end for _, end in found.offsets], np.int64)]

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, which `transformers` loads too."""
        folder.mkdir(parents=True, exist_ok=True)
        self.inner.save(str(folder / 'tokenizer.json'))
        settings = {'tokenizer_class': 'PreTrainedTokenizerFast'} | {k: v for k, v in self.settings.items() if v}
        (folder / 'tokenizer_config.json').write_text(json.dumps(settings, indent=1))

    @functools.cached_property
    def _description(self) -> dict[str, Any]:
        return json.loads(self.inner.to_str())

    @functools.cached_property
    def _is_byte_level(self) -> bool:
        return 'ByteLevel' in json.dumps(self._description['decoder'])

    def _special(self, kind: str) -> int | None:
        named = self.settings.get(f'{kind}_token') or self.settings.get(ALIASES.get(kind, ''))
        named = named['content'] if isinstance(named, dict) else named
        if named or f'{kind}_token' in self.settings:
            return self.inner.token_to_id(named) if named else None
        added = {token.content: i for i, token in self.inner.get_added_tokens_decoder().items()}
        return next((added[token] for token in USUAL[kind] if token in added), None)


def _byte_level(token: str) -> bytes:
    letters = byte_level.alphabet()
    return bytes(letters[c] for c in token) if all(c in letters for c in token) else token.encode()


def _surface(token: str) -> bytes:
    """What a token of WordPiece or SentencePiece looks like in a text."""
    if token.startswith('<0x') and token.endswith('>') and len(token) == 6:
        return bytes([int(token[3:5], 16)])
    return token.removeprefix('##').replace('▁', ' ').encode()
