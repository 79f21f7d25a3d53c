"""The vocabulary of a GGUF file, byte-level BPE, as a `tokenizers.Tokenizer` and the settings that go with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kdjax.data import byte_level
from kdjax.errors import UserError

CONTROL, USER_DEFINED = 3, 4
"""Types of a token that is matched whole, before any cut."""


def read(metadata: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The tokenizer, and its special tokens and chat template as tokenizer_config.json would hold them."""
    from tokenizers import Tokenizer, decoders, models, processors

    kind = metadata.get('tokenizer.ggml.model')
    if kind != 'gpt2':
        raise UserError(f"this GGUF file holds a vocabulary of kind '{kind}': only byte-level BPE, 'gpt2', is read")
    tokens, merges = ([str(each) for each in _part(metadata, name)] for name in ('tokens', 'merges'))
    cuts = str(_part(metadata, 'pre'))
    vocabulary = {token: i for i, token in enumerate(tokens)}
    pairs: Any = [tuple(merge.split(' ')) for merge in merges]
    try:
        inner = Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=cuts in byte_level.WHOLE_WORDS_FIRST))
    except Exception as error:  # the package raises nothing narrower
        raise UserError(f'the merges of this GGUF file do not fit its tokens: {error}') from None
    inner.pre_tokenizer = byte_level.pretokenizer(cuts)
    inner.decoder = decoders.ByteLevel()
    _add_special(inner, tokens, np.asarray(metadata.get('tokenizer.ggml.token_type', [1] * len(tokens))))
    settings = _settings(metadata, tokens)
    first = settings['bos_token']
    if metadata.get('tokenizer.ggml.add_bos_token') and first:
        inner.post_processor = processors.TemplateProcessing(f'{first} $A', None, [(first, vocabulary[first])])
    return inner, settings


def _part(metadata: Mapping[str, Any], name: str) -> Any:
    if (key := f'tokenizer.ggml.{name}') not in metadata:
        raise UserError(f"this GGUF file has no '{key}' in its metadata: its vocabulary is not whole, use another file")
    return metadata[key]


def _add_special(inner: Any, tokens: list[str], kinds: np.ndarray) -> None:
    from tokenizers import AddedToken

    for wanted, add in ((CONTROL, inner.add_special_tokens), (USER_DEFINED, inner.add_tokens)):
        found = np.flatnonzero(kinds == wanted)
        add([AddedToken(tokens[i], special=wanted == CONTROL, normalized=False) for i in found])


def _settings(metadata: Mapping[str, Any], tokens: list[str]) -> dict[str, Any]:
    fields = {'bos_token': 'bos_token_id', 'eos_token': 'eos_token_id', 'pad_token': 'padding_token_id'}
    ids = {name: metadata.get(f'tokenizer.ggml.{field}') for name, field in fields.items()}
    named = {name: None if i is None else tokens[int(i)] for name, i in ids.items()}
    return named | {'chat_template': metadata.get('tokenizer.chat_template')}
