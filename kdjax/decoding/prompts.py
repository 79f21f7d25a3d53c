"""Prompts of different lengths as one array, padded on the left so that all end together."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from kdjax.errors import UserError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prompts:
    """tokens `[rows, length]`; given: which of them are the prompt's. The last of every row is."""

    tokens: Int[Array, 'rows length']
    given: Bool[Array, 'rows length']


def pad_prompts(prompts: Sequence[Sequence[int] | np.ndarray]) -> Prompts:
    """Token ids of each prompt, padded on the left with 0. Raises UserError on an empty one, which nothing follows."""
    if not prompts:
        raise UserError('no prompts: give at least one')
    for row, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(f'prompt {row} is empty: give it at least one token, such as the one that begins a text')
    length = max(map(len, prompts))
    tokens, given = np.zeros((len(prompts), length), np.int32), np.zeros((len(prompts), length), bool)
    for row, prompt in enumerate(prompts):
        tokens[row, length - len(prompt) :] = prompt
        given[row, length - len(prompt) :] = True
    return Prompts(jnp.asarray(tokens), jnp.asarray(given))


def check_room(prompts: Prompts, context: int, max_new: int) -> None:
    """Raises UserError where the longest prompt and what is to follow it exceed the context.

    The last new token is not read.
    """
    length = prompts.tokens.shape[1]
    if max_new < 1:
        raise UserError(f'max_new is {max_new}: ask for at least one token')
    if length > context:
        raise UserError(f'a prompt has {length} tokens, the context of the model is {context}: shorten the prompt')
    if length + max_new - 1 > context:
        raise UserError(
            f'a prompt of {length} tokens and {max_new} new ones exceed the context of {context}: '
            f'ask for at most {context - length + 1} new tokens, or shorten the prompt'
        )
