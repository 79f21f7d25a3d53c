"""Which tokens two vocabularies share."""

from __future__ import annotations

import numpy as np

from kdjax.data.tokenizers import Tokenizer
from kdjax.errors import UserError


def match(student: Tokenizer, teacher: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the tokens that stand for the same bytes, int32, in the order of the student's ids; for 'intersect'.

    Tokens that begin and end a text, and that pad, match by their role, whatever they are written as. Of several
    tokens for the same bytes the first counts.
    Raises UserError where they share nothing.
    """
    pairs = _by_role(student, teacher)
    taken = {i for i, _ in pairs}, {j for _, j in pairs}
    ours, theirs = (_by_bytes(t, used) for t, used in zip((student, teacher), taken, strict=True))
    pairs += [(i, theirs[token]) for token, i in ours.items() if token in theirs]
    if not pairs:
        raise UserError(
            f'vocabularies of {student.size} and {teacher.size} tokens share none: use a loss across tokenizers'
        )
    found = np.array(sorted(pairs), np.int32)
    return found[:, 0], found[:, 1]


def starts(tokenizer: Tokenizer) -> np.ndarray:
    """Which tokens begin a word: those that begin with a space, tab or line end, and special tokens. bool [size].

    Source: the boundary bytes of ALM, arXiv 2503.20083.
    """
    roles = {tokenizer.bos, tokenizer.eos, tokenizer.pad}
    spaces = (b' ', b'\t', b'\n', b'\r')
    return np.array([i in roles or token[:1] in spaces for i, token in enumerate(tokenizer.token_bytes)])


def _by_role(student: Tokenizer, teacher: Tokenizer) -> list[tuple[int, int]]:
    """Special tokens that both have; one token of several roles is matched once."""
    pairs: list[tuple[int, int]] = []
    for role in ('eos', 'bos', 'pad'):
        i, j = getattr(student, role), getattr(teacher, role)
        if i is not None and j is not None and all(i != a and j != b for a, b in pairs):
            pairs.append((i, j))
    return pairs


def _by_bytes(tokenizer: Tokenizer, taken: set[int]) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for i, token in enumerate(tokenizer.token_bytes):
        if token and i not in taken:
            found.setdefault(token, i)
    return found
