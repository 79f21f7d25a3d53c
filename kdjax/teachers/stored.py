"""Teachers that already spoke, read from the columns that a cache on disk adds to a batch (`data.teacher_cache`)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.errors import UserError
from kdjax.models.model import Outputs
from kdjax.teachers.teacher import Teacher


def stored(name: str = 'teacher') -> Teacher:
    """What a sparse cache keeps of each token, from the columns `{name}_ids`, `{name}_probs`, ...

    Taps: `ids`, `probs` `[batch, length, slots]`, `entropy`, `log_normalizer` `[batch, length]`. The prediction is
    `probs` too: no logits, so a loss of logits refuses it by its shape. Sampled and hybrid kinds are read by

        term(losses.sparse_kl, 'student', 'teacher.ids', 'teacher.probs', 'teacher.entropy')

    and `TopK` by `tail_bucket_kl`, `renormalized_kl` or `truncated_kl`, which need no entropy.
    """

    def apply(memory, frozen, view, *, key):
        said = {tap: view[f'batch.{name}_{tap}'] for tap in ('ids', 'probs', 'entropy', 'log_normalizer')}
        said = jax.tree.map(jax.lax.stop_gradient, said)
        return Outputs(said['probs'], said)

    return Teacher(apply)


def stored_hidden(name: str = 'teacher', *, head: str = 'teacher_head') -> Teacher:
    """The teacher's own hidden states, from the column `{name}_hidden`, and its output embedding `frozen[head]`.

    Taps: `hidden` `[batch, length, width]`, `head` `[vocab, width]`, `entropy`, `log_normalizer`. The prediction is the
    logits in float32, which cost nothing where only the taps are read (the fused losses).
    """

    def init(frozen, example, variables):
        table, hidden = jnp.shape(frozen[head]), jnp.shape(example[f'{name}_hidden'])
        if len(table) != 2 or table[1] != hidden[-1]:
            raise UserError(
                f"frozen '{head}' has shape {table}, the hidden states in the cache {hidden}: give the head "
                '[vocab, width] of the teacher that the cache was made by'
            )
        return {}

    def apply(memory, frozen, view, *, key):
        said = {tap: view[f'batch.{name}_{tap}'] for tap in ('hidden', 'entropy', 'log_normalizer')}
        said = jax.tree.map(jax.lax.stop_gradient, {**said, 'head': frozen[head]})
        hidden, table = said['hidden'], said['head']
        logits = jnp.einsum('...d,vd->...v', hidden, table.astype(hidden.dtype), preferred_element_type=jnp.float32)
        return Outputs(logits, said)

    return Teacher(apply, init)
