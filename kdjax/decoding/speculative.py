"""Speculative decoding: a draft model writes some tokens ahead, the target reads them at once and keeps what stands.

What comes out has exactly the law of sampling from the target (arXiv 2211.17192, appendix A.1), whatever the draft.

Both caches hold the same tokens in the same slots. A round writes the last token and n drafts into n + 1 slots of every
row. Rows accept different numbers: a rejected token's slot is closed in its own row (`valid`), and slots that no row
kept are written again. Positions, not slots, say how far apart tokens are. When the slots are full, the closed ones
among them are squeezed out.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from kdjax.decoding.generation import next_logits, read_prompts
from kdjax.decoding.language_model import LanguageModel
from kdjax.decoding.prompts import Prompts, check_room
from kdjax.decoding.sampling import PLAIN, Sampling, draw, log_distribution, row_keys, step_keys
from kdjax.decoding.verification import Verdict, ends_text, verify
from kdjax.errors import UserError
from kdjax.models.cache import Cache
from kdjax.models.model import Variables
from kdjax.streams import stream

SPARE = 8
"""Rounds that are sure to fit between two squeezes of the caches."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Speculated:
    """What follows the prompts, and what the draft was good for.

    tokens, lengths: as in `Generated`. passes: how often the target read the row. tested, accepted: drafts within the
    text that were put to the test, and those that stood.
    """

    tokens: Int[Array, 'rows max_new']
    lengths: Int[Array, 'rows']
    passes: Int[Array, 'rows']
    tested: Int[Array, 'rows']
    accepted: Int[Array, 'rows']

    @property
    def acceptance(self) -> Float[Array, '']:
        """Of the drafts put to the test, how many stood, over all rows. In [0, 1]."""
        return jnp.sum(self.accepted) / jnp.maximum(jnp.sum(self.tested), 1)

    @property
    def block_length(self) -> Float[Array, '']:
        """Tokens for each pass of the target, over all rows. In [1, drafts + 1]."""
        return jnp.sum(self.lengths) / jnp.sum(self.passes)


def speculate(
    target: LanguageModel,
    target_variables: Variables,
    draft: LanguageModel,
    draft_variables: Variables,
    prompts: Prompts,
    *,
    key: Key[Array, ''],
    max_new: int,
    drafts: int = 4,
    sampling: Sampling = PLAIN,
    stop: tuple[int, ...] = (),
    cache_dtype: Any = jnp.float32,
) -> Speculated:
    """Up to `max_new` tokens after each prompt with the target's law under `sampling`; `drafts` tokens a round.

    Greedy, the tokens are those that the target alone would write. Rows draw from streams of their own.
    Raises UserError on different vocabularies, and where prompt and new tokens exceed either context.
    """
    sizes = target.config.vocabulary, draft.config.vocabulary
    if sizes[0] != sizes[1]:
        raise UserError(f'the target has {sizes[0]} tokens, the draft {sizes[1]}: both need the same vocabulary')
    if drafts < 1:
        raise UserError(f'drafts is {drafts}: draft at least one token a round')
    check_room(prompts, min(target.config.context, draft.config.context), max_new)
    options = _Options(max_new, drafts, sampling, stop, jnp.dtype(cache_dtype))
    return _speculate(target, draft, options, (target_variables, draft_variables), prompts, key)


@dataclasses.dataclass(frozen=True)
class _Options:
    max_new: int
    drafts: int
    sampling: Sampling
    stop: tuple[int, ...]
    cache_dtype: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Writing:
    said: Speculated
    caches: tuple[Cache, ...]
    token: jax.Array
    ended: jax.Array
    round: jax.Array


@functools.partial(jax.jit, static_argnums=range(3))
def _speculate(
    target: LanguageModel, draft: LanguageModel, options: _Options, variables: tuple, prompts: Prompts, key: jax.Array
) -> Speculated:
    rows, length = prompts.tokens.shape
    keys = row_keys(stream(key, 'speculate'), rows)
    sampling, slots = options.sampling, length + options.max_new + SPARE * (options.drafts + 1)
    caches = tuple(
        read_prompts(each, held, prompts, slots, options.cache_dtype)
        for each, held in zip((target, draft), variables, strict=True)
    )
    places = jnp.sum(prompts.given, axis=1, dtype=jnp.int32) - 1

    def one_round(now: _Writing) -> _Writing:
        to_draft, to_verify = _two(step_keys(keys, now.round))
        place = places + now.said.lengths
        held = now.caches[1]
        tokens, probs, held = _draft(draft, variables[1], options, to_draft, now.token, place, held)
        row = jnp.concatenate([now.token[:, None], tokens], axis=1)
        position = place[:, None] + jnp.arange(row.shape[1], dtype=jnp.int32)[None]
        logits, read = next_logits(target, variables[0], row, position, now.caches[0])
        verdict = verify(to_verify, jnp.exp(log_distribution(logits, sampling)), probs, tokens)
        said, ended = _with_block(now.said, tokens, verdict, now.ended, options)
        start = now.caches[0].length
        caches = tuple(_taken_back(each, start, verdict.accepted, ended) for each in (read, held))
        return _Writing(said, caches, verdict.token, ended, now.round + 1)

    nothing = jnp.zeros(rows, jnp.int32)
    said = Speculated(jnp.zeros((rows, options.max_new), jnp.int32), nothing, nothing, nothing, nothing)
    start = _Writing(said, caches, prompts.tokens[:, -1], jnp.zeros(rows, bool), jnp.zeros((), jnp.int32))

    def room(now: _Writing) -> jax.Array:
        return ~jnp.all(now.ended) & (now.caches[0].length + options.drafts + 1 <= slots)

    def rounds(now: _Writing) -> _Writing:
        now = jax.lax.while_loop(room, one_round, now)
        return dataclasses.replace(now, caches=_squeezed(now.caches))

    return jax.lax.while_loop(lambda now: ~jnp.all(now.ended), rounds, start).said


def _draft(
    decoder: LanguageModel,
    variables: Variables,
    options: _Options,
    keys: jax.Array,
    token: jax.Array,
    place: jax.Array,
    cache: Cache,
) -> tuple[jax.Array, jax.Array, Cache]:
    """The drafts, their distributions, and the cache with the last of them too, should all stand."""

    def one(carry: tuple, step: jax.Array) -> tuple[tuple, tuple]:
        token, cache = carry
        logits, cache = next_logits(decoder, variables, token, place + step, cache)
        probs = jnp.exp(log_distribution(logits, options.sampling))
        token = draw(step_keys(keys, step), probs)
        return (token, cache), (token, probs)

    steps = jnp.arange(options.drafts, dtype=jnp.int32)
    (token, cache), (tokens, probs) = jax.lax.scan(one, (token, cache), steps)
    _, cache = next_logits(decoder, variables, token, place + options.drafts, cache)
    return tokens.T, jnp.moveaxis(probs, 0, 1), cache


def _with_block(
    said: Speculated, tokens: jax.Array, verdict: Verdict, ended: jax.Array, options: _Options
) -> tuple[Speculated, jax.Array]:
    """The text with the accepted drafts and the token after them, up to a stop token or the last place."""
    rows, drafts = tokens.shape
    index = jnp.arange(drafts + 1, dtype=jnp.int32)[None]
    block = jnp.concatenate([tokens, tokens[:, -1:]], axis=1)
    block = jnp.where(index == verdict.accepted[:, None], verdict.token[:, None], block)
    stops = ends_text(block, options.stop).astype(jnp.int32)
    before_stop = jnp.cumsum(stops, axis=1) == stops
    place = said.lengths[:, None] + index
    counts = (index <= verdict.accepted[:, None]) & before_stop & (place < options.max_new) & ~ended[:, None]
    new = jnp.sum(counts, axis=1, dtype=jnp.int32)
    row = jnp.arange(rows)[:, None]
    written = Speculated(
        said.tokens.at[row, jnp.where(counts, place, options.max_new)].set(block, mode='drop'),
        said.lengths + new,
        said.passes + (~ended).astype(jnp.int32),
        said.tested + jnp.minimum(new, drafts),
        said.accepted + jnp.minimum(new, verdict.accepted),
    )
    stopped = jnp.any(counts & (stops > 0), axis=1)
    return written, ended | stopped | (written.lengths >= options.max_new)


def _taken_back(cache: Cache, start: jax.Array, accepted: jax.Array, ended: jax.Array) -> Cache:
    """The cache without the rejected drafts, and without the rows that ended.

    The slots after `start` hold the last token, then the drafts.
    """
    slot = jnp.arange(cache.valid.shape[1], dtype=jnp.int32)[None]
    kept = (slot <= start + accepted[:, None]) & ~ended[:, None]
    longest = jnp.max(jnp.where(ended, -1, accepted))
    return dataclasses.replace(cache, valid=cache.valid & kept, length=start + 1 + longest)


def _squeezed(caches: tuple[Cache, ...]) -> tuple[Cache, ...]:
    """The same tokens in the first slots, in order, so that all rows end together."""
    valid = caches[0].valid
    longest = jnp.max(jnp.sum(valid, axis=1, dtype=jnp.int32))
    order = jnp.roll(jnp.argsort(valid, axis=1, stable=True), longest, axis=1)
    rearranged = jax.vmap(lambda row, slots: jnp.take(row, slots, axis=-2))
    return tuple(
        Cache(
            tuple(rearranged(keys, order) for keys in cache.keys),
            tuple(rearranged(values, order) for values in cache.values),
            jnp.take_along_axis(valid, order, axis=1),
            longest,
        )
        for cache in caches
    )


def _two(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]
