"""Texts that players and teachers write inside a step: prompts out of the batch, and what follows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.algorithms.algorithm import Batch
from kdjax.algorithms.rollouts import Rollout, unrolled
from kdjax.decoding import PLAIN, LanguageModel, Prompts, Sampling, generate_mixture
from kdjax.errors import UserError
from kdjax.models.model import under
from kdjax.objectives import Weight

Ask = Callable[[Batch], Prompts]
"""From a batch to prompts, padded on the left; a row of which nothing is given is rolled out to no purpose."""


def first_tokens(length: int) -> Ask:
    """Prompts of packed rows: the first `length` tokens, and of these the document that they end in."""

    def ask(batch: Batch) -> Prompts:
        last = jnp.full((len(batch['tokens']), 1), length - 1, jnp.int32)
        return _ending_at(batch, last, length)

    return ask


def before_response(length: int) -> Ask:
    """Prompts of instructions: what comes before the first label that counts, the last `length` tokens of it.

    A row with several instructions is a prompt for its first one.
    """

    def ask(batch: Batch) -> Prompts:
        return _ending_at(batch, jnp.argmax(batch['where'], axis=1, keepdims=True).astype(jnp.int32), length)

    return ask


def written(
    writers: Mapping[str, LanguageModel],
    prompts: Ask,
    *,
    weights: tuple[Weight, ...] | None = None,
    sampling: Sampling = PLAIN,
    stop: tuple[int, ...] = (),
) -> Rollout:
    """Every row becomes its prompt and what `writers` say next, to its full length.

    writers: models by the name of their variables: of a player, as they are before the step, or in `frozen`.
        `{'student': model}` is on-policy, `{'teacher': model}` sequence-level KD with a new text at each step.
    prompts: `first_tokens` or `before_response`; a row of T inputs is continued by T + 1 - (their length) tokens.
    weights: of several writers, adding to 1, or schedules: each token is drawn from the mixture of their
        distributions, MiniLLM's teacher-mixed sampling; `batch.behaviour` is its log-probability under the mixture.
    stop: a row ends with such a token; what would follow does not count.

    Only drawn labels count. Row i draws from a stream of its own: what it says does not depend on the others.
    Raises UserError where the prompts leave no room, without weights for several writers, and as `generate_mixture`.
    Source: arXiv 2306.13649, algorithm 1; arXiv 2306.08543, section 2.2.
    """
    return _written(dict(writers), prompts, weights, sampling, stop, jnp.float32)


def _written(
    writers: dict[str, LanguageModel], prompts: Ask, weights: Any, sampling: Sampling, stop: Any, cache_dtype: Any
) -> Rollout:
    if len(writers) != len(weights or (1.0,)):
        raise UserError(f'{len(writers)} writers, {len(weights or (1.0,))} weights: give a weight for each writer')

    def apply(memory, batch, lookup, *, step, key):
        asked = prompts(batch)
        room = batch['tokens'].shape[1] + 1 - asked.tokens.shape[1]
        if room < 1:
            raise UserError(
                f'prompts of {asked.tokens.shape[1]} tokens fill rows of {batch["tokens"].shape[1]} inputs: '
                'ask for shorter prompts, or give longer rows'
            )
        said = generate_mixture(
            tuple(writers.values()), tuple(lookup(name) for name in writers), _shares(weights, step),
            Prompts(asked.tokens, asked.given.at[:, -1].set(True)),
            key=key, max_new=room, sampling=sampling, stop=stop, cache_dtype=cache_dtype,
        )  # fmt: skip
        return unrolled(batch) | continued(asked, said.tokens, said.lengths, said.sampled_log_probs), memory

    def in_dtype(dtype_of: Callable[[str], str]) -> Rollout:
        dtypes = {name: dtype_of(name) for name in writers}
        again = {n: dataclasses.replace(w, model=under(w.model, dtype=dtypes[n])) for n, w in writers.items()}
        kept = jnp.bfloat16 if set(dtypes.values()) == {'bfloat16'} else jnp.float32
        return _written(again, prompts, weights, sampling, stop, kept)

    return Rollout(apply, in_dtype=in_dtype)


def _shares(weights: tuple[Weight, ...] | None, step: Any) -> jax.Array:
    with jax.numpy_dtype_promotion('standard'):  # schedules mix integer steps with floats
        return jnp.stack([jnp.asarray(w(step) if callable(w) else w, jnp.float32) for w in weights or (1.0,)])


def _ending_at(batch: Batch, last: jax.Array, length: int) -> Prompts:
    """The `length` tokens up to `last` `[B, 1]` of each row, as far as they are of its document."""
    if not 1 <= length <= batch['tokens'].shape[1]:
        raise UserError(f'prompts of {length} tokens out of rows of {batch["tokens"].shape[1]}: they have to fit')
    index = last - (length - 1) + jnp.arange(length, dtype=jnp.int32)[None]
    tokens, segment = (jnp.take_along_axis(batch[n], jnp.maximum(index, 0), axis=1) for n in ('tokens', 'segment'))
    counts = jnp.any(batch['where'], axis=1, keepdims=True)
    return Prompts(tokens, (index >= 0) & (segment == segment[:, -1:]) & (segment > 0) & counts)


def continued(asked: Prompts, said: jax.Array, lengths: jax.Array, log_probs: jax.Array) -> dict[str, jax.Array]:
    """The columns of rows that are a prompt and what follows it, `[B, new]`, see `kdjax.algorithms.rollouts`."""
    before = asked.given.shape[1] - 1
    new = jnp.arange(said.shape[1], dtype=jnp.int32)[None] < lengths[:, None]
    real = jnp.concatenate([asked.given, new & asked.given[:, -1:]], axis=1)
    tokens = jnp.concatenate([asked.tokens, said], axis=1)
    drawn = real[:, 1:] & (jnp.arange(tokens.shape[1] - 1)[None] >= before)
    behaviour = jnp.pad(log_probs, ((0, 0), (before, 0)))
    return {
        'tokens': tokens[:, :-1],
        'label': tokens[:, 1:],
        'where': drawn,
        'segment': real[:, :-1].astype(jnp.int32),
        'position': jnp.where(real, jnp.cumsum(real, axis=1, dtype=jnp.int32) - 1, 0)[:, :-1],
        'drawn': drawn,
        'behaviour': jnp.where(drawn, behaviour, 0.0),
    }
