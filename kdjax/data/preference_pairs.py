"""Pairs of texts with one prompt, of which one is preferred."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np

from kdjax.data.dataset import ArraySource, Origin
from kdjax.data.markov import Markov
from kdjax.errors import UserError


def preference_pairs(
    language: Markov, reward: Callable[[np.ndarray], np.ndarray], *, rows: int, prompt: int, seed: int = 0
) -> Markov:
    """Of each prompt in the train split two continuations in the language, the one of higher reward first.

    A row of train is two documents of `language.length + 1` tokens, with the segments 1 and 2; what follows the prompts
    counts. The other splits are the language's own.
    reward: of texts without their prompts, [rows, length + 1 - prompt] tokens -> [rows].
    Raises `UserError` for prompts that are shorter than the order or leave no room, and for more rows than there are.
    """
    length, train = language.length + 1, language['train']
    if not language.order <= prompt < length:
        raise UserError(f'prompt={prompt}: choose from the order, {language.order}, to {length - 1}')
    if not 1 <= rows <= len(train):
        raise UserError(f"{rows} prompts of the train split of '{language.name}': choose from 1 to {len(train)}")
    draw = np.random.default_rng(seed)
    prompts = train.take(np.arange(rows))['tokens'][:, :prompt]
    two = np.stack([_continued(language.log_probs, prompts, length, draw) for _ in range(2)], axis=1)
    rewards = np.stack([reward(two[:, i, prompt:]) for i in range(2)], axis=1)
    order = np.argsort(-rewards, axis=1, kind='stable')
    tokens = np.take_along_axis(two, order[:, :, None], axis=1).reshape(rows, 2 * length)
    segment, counted = np.repeat([1, 2], length), np.tile(np.arange(length) >= prompt, 2)
    source = ArraySource({
        'tokens': tokens,
        'segment': np.tile(segment.astype(np.int32), (rows, 1)),
        'counted': np.tile(counted, (rows, 1)),
    })
    identity = hashlib.sha256(language.identity.encode() + tokens.tobytes()).hexdigest()
    origin = Origin(language.origin.source, language.origin.licence, f'{rows} pairs of {language.length}')
    return dataclasses.replace(
        language, name=f'{language.name}-pairs', splits={**language.splits, 'train': source}, identity=identity,
        origin=origin,
    )  # fmt: skip


def _continued(log_probs: np.ndarray, prompts: np.ndarray, length: int, draw: np.random.Generator) -> np.ndarray:
    order, vocabulary = log_probs.ndim - 1, log_probs.shape[-1]
    tokens = np.zeros((len(prompts), length), np.int32)
    tokens[:, : prompts.shape[1]] = prompts
    for place in range(prompts.shape[1], length):
        context = tuple(tokens[:, place - back] for back in range(order, 0, -1))
        tokens[:, place] = np.argmax(log_probs[context] + draw.gumbel(size=(len(prompts), vocabulary)), axis=-1)
    return tokens
