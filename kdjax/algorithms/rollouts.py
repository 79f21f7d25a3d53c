"""Rollouts: a batch is rewritten, with the variables before the step, before anybody learns from it.

    play(..., rollout=written({'student': model}, first_tokens(64)))                   # on the student's own texts
    play(..., rollout=with_data(written(...), share=0.5))                              # GKD: half of the batches

`written` is in `kdjax.algorithms.writing`. Rollouts are of text: after them a batch holds `tokens`, `label`, `where`,
`segment`, `position` `[B, T]` as after `prepare_text`, and

    drawn      [B, T] bool     labels that somebody drew, and that count: `term(..., where='batch.drawn')`
    behaviour  [B, T] float32  their log-probabilities under whoever drew them, in nats; 0 elsewhere

Other columns along time were made for the text of the data: they are left out, so that reading them is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.algorithms.algorithm import Batch
from kdjax.errors import UserError, unknown
from kdjax.models.model import Variables
from kdjax.objectives import Weight
from kdjax.streams import stream

TEXT = ('tokens', 'label', 'where', 'segment', 'position')

Lookup = Callable[[str], Variables]
"""The variables of a player before the step, or an entry of `frozen`, by name."""


def _nothing(batch: Batch) -> Any:
    del batch
    return {}


@dataclasses.dataclass(frozen=True)
class Rollout:
    """Who rewrites batches.

    apply(memory, batch, lookup, *, step, key) -> (batch, memory), pure; nothing is differentiated through it.
    init(batch) -> memory, for a batch as `unrolled` gives it. Memory is part of the train state, so it is saved.
    in_dtype(dtype_of) -> the same with activations of the type that `dtype_of(name)` tells; None where there are none.
    """

    apply: Callable[..., tuple[Batch, Any]]
    init: Callable[[Batch], Any] = _nothing
    in_dtype: Callable[[Callable[[str], str]], Rollout] | None = None


def unrolled(batch: Batch) -> dict[str, Any]:
    """The text of the data with the columns that a rollout gives: nothing is drawn.

    Raises UserError where the batch is no text.
    """
    for name in TEXT:
        if name not in batch:
            raise unknown('field of a batch that is rolled out', name, batch)
    rest = {name: x for name, x in batch.items() if name in TEXT or jnp.ndim(x) < 2}
    shape = batch['tokens'].shape
    return rest | {'drawn': jnp.zeros(shape, bool), 'behaviour': jnp.zeros(shape, jnp.float32)}


def with_data(rollout: Rollout, *, share: Weight, per: str = 'batch') -> Rollout:
    """A rollout with probability `share`, the text of the data otherwise, all labels of which count.

    share: lambda of GKD, in [0, 1], or a schedule of it: step -> scalar.
    per: 'batch' draws once for all, as the paper does, and spends nothing on a batch that is not rolled out;
        'example' draws for each, from texts that are written for all.
    Raises UserError on a share outside [0, 1] and on another `per`.
    Source: GKD, arXiv 2306.13649, algorithm 1.
    """
    _check_share('share', share)
    if per not in ('batch', 'example'):
        raise unknown('per', per, ('batch', 'example'))

    def apply(memory, batch, lookup, *, step, key):
        data, rolls = unrolled(batch), stream(key, 'share')
        size = (len(batch['tokens']),) if per == 'example' else ()
        chosen = jax.random.uniform(rolls, size) < _at(share, step)

        def roll():
            return rollout.apply(memory, batch, lookup, step=step, key=key)

        if per == 'batch':
            return jax.lax.cond(chosen, roll, lambda: (data, memory))
        rolled, after = roll()
        return jax.tree.map(lambda new, old: jnp.where(_along(chosen, new), new, old), rolled, data), after

    return _around(rollout, apply, lambda inner: with_data(inner, share=share, per=per))


def replayed(rollout: Rollout, *, capacity: int, fresh: Weight) -> Rollout:
    """Batches of a rollout that are kept, and learned from again: with probability `fresh` a new one is written.

    The last `capacity` rows are in the memory, with their `behaviour`; a batch that is not new is drawn from them
    without replacement. Until the memory is full, all are new.

        with_data(replayed(written(...), capacity=1000, fresh=lambda step: 1 - step / steps), share=0.5)

    is DistiLLM's off-policy scheme with a fixed share; theirs rises by 0.1 whenever the validation loss does.
    Raises UserError where `fresh` is outside [0, 1], and where a batch has more rows than the memory.
    Source: DistiLLM, arXiv 2402.03898, section 3.2, and its finetune.py.
    """
    _check_share('fresh', fresh)

    def init(batch):
        rows = len(batch['tokens'])
        if capacity < rows:
            raise UserError(f'capacity={capacity} is less than the batch of {rows}: keep at least one batch')
        kept = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape[1:]), x.dtype), dict(batch))
        nothing = jnp.zeros((), jnp.int32)
        return {'inner': rollout.init(batch), 'rows': kept, 'next': nothing, 'filled': nothing}

    def apply(memory, batch, lookup, *, step, key):
        size = len(batch['tokens'])
        coin, rows = (stream(key, name) for name in ('fresh', 'replay'))
        new = (jax.random.uniform(coin) < _at(fresh, step)) | (memory['filled'] < capacity)

        def write():
            rolled, inner = rollout.apply(memory['inner'], batch, lookup, step=step, key=key)
            slots = (memory['next'] + jnp.arange(size, dtype=jnp.int32)) % capacity
            kept = jax.tree.map(lambda old, x: old.at[slots].set(x), memory['rows'], dict(rolled))
            filled = jnp.minimum(memory['filled'] + size, capacity)
            return rolled, {'inner': inner, 'rows': kept, 'next': (slots[-1] + 1) % capacity, 'filled': filled}

        def read():
            chosen = jax.random.permutation(rows, capacity)[:size]
            return jax.tree.map(lambda x: x[chosen], memory['rows']), memory

        return jax.lax.cond(new, write, read)

    again = _around(rollout, apply, lambda inner: replayed(inner, capacity=capacity, fresh=fresh))
    return dataclasses.replace(again, init=init)


def executed_rollout(rollout: Rollout | None, dtype_of: Callable[[str], str]) -> Rollout | None:
    """The rollout with activations of these types; itself where there are none."""
    return rollout if rollout is None or rollout.in_dtype is None else rollout.in_dtype(dtype_of)


def _around(inner: Rollout, apply: Callable[..., Any], again: Callable[[Rollout], Rollout]) -> Rollout:
    return Rollout(apply, inner.init, lambda dtype_of: again(executed_rollout(inner, dtype_of) or inner))


def _check_share(name: str, share: Weight) -> None:
    if not callable(share) and not 0 <= share <= 1:
        raise UserError(f'{name}={share}: a probability, from 0 to 1, or a schedule of one')


def _at(share: Weight, step: Any) -> jax.Array:
    with jax.numpy_dtype_promotion('standard'):  # schedules mix integer steps with floats
        return jnp.asarray(share(step) if callable(share) else share, jnp.float32)


def _along(chosen: jax.Array, rows: jax.Array) -> jax.Array:
    return chosen.reshape(-1, *(1,) * (rows.ndim - 1))
