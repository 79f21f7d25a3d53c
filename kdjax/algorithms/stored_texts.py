"""Texts that are written once, before training: sequence-level KD (arXiv 1606.07947, section 3.2) with one pass.

    texts = Compute(name='texts', call=partial(write, task_source, prepare, written({'teacher': model}, ...)), ...)
    play(..., rollout=stored_texts('texts'))                  # with inputs={'texts': Output(texts)}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.algorithm import Batch
from kdjax.algorithms.cast import Prepare
from kdjax.algorithms.rollouts import Rollout, unrolled
from kdjax.data.batches import evaluation_batches
from kdjax.data.dataset import Source
from kdjax.data.text_batch import prepare_text
from kdjax.errors import UserError
from kdjax.streams import stream


def write(
    source: Source,
    prepare: Prepare,
    rollout: Rollout,
    frozen: Mapping[str, Any],
    *,
    key: jax.Array,
    batch: int = 256,
) -> dict[str, np.ndarray]:
    """The rows of a split as a rollout of frozen writers rewrites them: a data set, as stored columns.

    frozen: the variables of the writers, by name.
    Returns `tokens`, `segment`, `counted` [rows, T + 1], as every text split has them, and `behaviour` [rows, T].
    The same key and batch size write the same texts.
    """

    @jax.jit
    def rewritten(frozen: Mapping[str, Any], batch: Batch, number: jax.Array) -> dict[str, jax.Array]:
        own = stream(key, 'write', number)
        rows = prepare(batch, key=own, train=False)
        memory = rollout.init(unrolled(rows))
        return _stored(rollout.apply(memory, rows, frozen.__getitem__, step=0, key=own)[0])

    made = []
    for number, rows in enumerate(evaluation_batches(source, batch)):
        real = rows.pop('where')
        columns = jax.device_get(rewritten(frozen, rows, jnp.int32(number)))
        made.append({name: column[real] for name, column in columns.items()})
    return {name: np.concatenate([columns[name] for columns in made]) for name in made[0]}


def stored_texts(name: str = 'texts') -> Rollout:
    """Each row becomes what `frozen[name]`, as `write` made it, holds for its `index`."""

    def apply(memory: Any, batch: Batch, lookup: Callable[[str], Any], *, step: Any, key: jax.Array):
        table, data = lookup(name), unrolled(batch)
        if table['behaviour'].shape[1] != data['tokens'].shape[1]:
            raise UserError(
                f"'{name}' has rows of {table['behaviour'].shape[1]} inputs, the batch of {data['tokens'].shape[1]}: "
                'write the texts from the same data'
            )
        rows = {column: jnp.asarray(values)[batch['index']] for column, values in table.items()}
        behaviour = rows.pop('behaviour')
        text = prepare_text(rows)
        where = text['where'] & jnp.any(batch['where'], axis=1, keepdims=True)
        return data | text | {'where': where, 'drawn': where, 'behaviour': jnp.where(where, behaviour, 0.0)}, memory

    return Rollout(apply)


def _stored(batch: Batch) -> dict[str, jax.Array]:
    """The inverse of `prepare_text`."""
    last = jnp.where(batch['where'][:, -1:], batch['segment'][:, -1:], 0)
    return {
        'tokens': jnp.concatenate([batch['tokens'], batch['label'][:, -1:]], axis=1),
        'segment': jnp.concatenate([batch['segment'], last], axis=1),
        'counted': jnp.pad(batch['where'], ((0, 0), (1, 0))),
        'behaviour': batch['behaviour'],
    }
