"""From a teacher's logits to what a cache keeps of them: pure functions of fixed shape, for the device."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from kdjax.data.teacher_cache import grids
from kdjax.data.teacher_cache.intervals import intervals
from kdjax.data.teacher_cache.kinds import Hidden, Hybrid, Kind, Sampled, TopK, check_kind, entries
from kdjax.streams import stream


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sparse:
    """What is known of softmax(logits / temperature), for every token of `*tokens`.

    ids `[*tokens, slots]`: classes, -1 where there is none; probs: their probabilities, or the weights that have those
    as expectation; a class may come twice. exact `[*tokens]`: how many of the first slots are no sample.
    log_normalizer: logsumexp(logits / temperature); entropy: of the full distribution, in nats.
    """

    ids: Int[Array, '*tokens slots']
    probs: Float[Array, '*tokens slots']
    exact: Int[Array, '*tokens']
    log_normalizer: Float[Array, '*tokens']
    entropy: Float[Array, '*tokens']


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HiddenStates:
    """hidden `[*tokens, width]` in bfloat16, and the log-normaliser and entropy of the logits they stand for."""

    hidden: Array
    log_normalizer: Float[Array, '*tokens']
    entropy: Float[Array, '*tokens']


def compress(kind: Kind, logits: Float[Array, '*tokens vocab'], *, key: PRNGKeyArray) -> Sparse:
    """The logits as a sparse kind keeps them, rounded to what is stored; every token draws for itself."""
    if isinstance(kind, Hidden):
        raise ValueError('hidden states are kept as they are: use `keep_hidden`')
    check_kind(kind, logits.shape[-1])
    rows = logits.reshape(-1, logits.shape[-1]).astype(jnp.float32) / kind.temperature
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(len(rows), dtype=jnp.int32))
    ids, probs, exact = jax.vmap(functools.partial(_HOW[type(kind)], kind))(jax.nn.softmax(rows), keys)
    shape = logits.shape[:-1]
    ids, probs, exact = (a.reshape(shape + a.shape[1:]) for a in (ids, probs, exact))
    return Sparse(ids, probs, exact, *_described(rows, shape))


def keep_hidden(hidden: Float[Array, '*tokens width'], logits: Float[Array, '*same vocab']) -> HiddenStates:
    """Hidden states, with the normaliser of the logits that the teacher's head makes of them."""
    rows = logits.reshape(-1, logits.shape[-1]).astype(jnp.float32)
    return HiddenStates(hidden.astype(jnp.bfloat16), *_described(rows, logits.shape[:-1]))


def answering(kind: Kind, speak: Callable[[Any], Any], *, seed: int) -> Callable[[Mapping[str, Any]], Any]:
    """The teacher's answers to a batch, jitted: what `write_cache` asks for.

    speak(batch) -> logits `[batch, length, vocab]`, or for `Hidden` (hidden states, logits). What is drawn for a row is
    a function of (seed, its index): it depends neither on its batch nor on the process that writes it.
    """

    def answer(batch: Mapping[str, Any]) -> Any:
        said = speak(batch)
        if isinstance(kind, Hidden):
            return keep_hidden(*said)
        key = stream(jax.random.key(seed), 'teacher cache')

        def row(logits, index):
            return compress(kind, logits, key=jax.random.fold_in(key, index))

        return jax.vmap(row)(said, batch['index'])

    return jax.jit(answer)


def _top_k(kind: TopK, probs: Float[Array, ' vocab'], key: PRNGKeyArray):
    del key
    top, ids = jax.lax.top_k(probs, kind.k)
    return ids, grids.nearest(top, kind.bits), jnp.asarray(kind.k, jnp.int32)


def _sampled(kind: Sampled, probs: Float[Array, ' vocab'], key: PRNGKeyArray):
    """Draws in the order of their ids; one that repeats the last has the id -1 and counts for the first of its kind."""
    draw_key, round_key = jax.random.split(key)
    proposal = probs if kind.power == 1 else probs**kind.power
    line = intervals(proposal)
    ids = line.at(jnp.sort(jax.random.uniform(draw_key, (kind.draws,))) * line.total)
    first, after = (jnp.searchsorted(ids, ids, side=side) for side in ('left', 'right'))
    counts = (after - first).astype(jnp.float32)
    new = first == jnp.arange(kind.draws, dtype=first.dtype)
    weights = counts / kind.draws
    if kind.power != 1:
        weights = grids.weight_at_random(weights * probs[ids] / proposal[ids] * line.total, key=round_key)
    return jnp.where(new, ids, -1), jnp.where(new, weights, 0.0), jnp.zeros((), jnp.int32)


def _hybrid(kind: Hybrid, probs: Float[Array, ' vocab'], key: PRNGKeyArray):
    """The classes above the threshold, then a systematic sample of the rest: one offset for evenly spaced points."""
    draw_key, round_key = jax.random.split(key)
    threshold = kind.threshold
    size = entries(kind, len(probs))
    top, top_ids = jax.lax.top_k(probs, size)
    head = jnp.sum(top >= threshold, dtype=jnp.int32)
    line = intervals(jnp.where(probs >= threshold, 0.0, probs))
    slot = jnp.arange(size, dtype=jnp.int32)
    points = threshold * (jax.random.uniform(draw_key) + slot.astype(jnp.float32))
    tail = jnp.sum(points < line.total, dtype=jnp.int32)
    top = grids.at_random(top, kind.bits, key=round_key)
    exact, there = slot < head, slot < head + tail
    drawn = jnp.roll(line.at(points), head)
    ids = jnp.where(exact, top_ids, jnp.where(there, drawn, -1))
    return ids, jnp.where(exact, top, jnp.where(there, threshold, 0.0)), head


_HOW: dict[type, Callable[..., Any]] = {TopK: _top_k, Sampled: _sampled, Hybrid: _hybrid}


def _described(rows: Float[Array, 'n vocab'], shape: tuple[int, ...]) -> tuple[Array, Array]:
    """logsumexp and entropy of each row, in the tokens' shape."""
    log_p = jax.nn.log_softmax(rows)
    p = jnp.exp(log_p)
    entropy = -jnp.sum(jnp.where(p > 0, p * log_p, 0.0), axis=-1)
    return jax.nn.logsumexp(rows, axis=-1).reshape(shape), entropy.reshape(shape)
