"""GPT-2's byte-level alphabet, and how public models cut text into pieces before byte-pair merges."""

from __future__ import annotations

import functools
from typing import Any

from kdjax.errors import unknown

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3, QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
    + digits
    + r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
    for digits in (r'\p{N}{1,3}', r'\p{N}')
)
DIGIT = r'\p{N}'
PATTERNS = {
    **dict.fromkeys(('gpt-2', 'mpt', 'olmo', 'jais'), (GPT2,)),
    **dict.fromkeys(('smollm', 'starcoder', 'refact', 'command-r', 'codeshell', 'exaone'), (DIGIT, GPT2)),
    'llama-bpe': (LLAMA3,),
    'qwen2': (QWEN2,),
}
"""By the name that GGUF files give in `tokenizer.ggml.pre`: patterns that cut the text, one after the other.

As in llama.cpp, src/llama-vocab.cpp (`llm_tokenizer_bpe`), and in the tokenizer.json of the models themselves.
"""
WHOLE_WORDS_FIRST = ('llama-bpe',)
"""The ones whose BPE takes a piece as one token wherever it is one, merges or not."""


def pretokenizer(name: str) -> Any:
    """The `tokenizers` pre-tokenizer of that name. Raises `UserError` for a name that is not in `PATTERNS`."""
    from tokenizers import Regex, pre_tokenizers

    if name not in PATTERNS:
        raise unknown('pre-tokenizer of a GGUF vocabulary', name, PATTERNS)
    cuts = [pre_tokenizers.Split(Regex(pattern), 'isolated') for pattern in PATTERNS[name]]
    return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@functools.cache
def alphabet() -> dict[str, int]:
    """The character that stands for each byte: itself where it prints, else the next one from U+0100 on."""
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(256 + i): byte for i, byte in enumerate(others)}
