"""A teacher that already spoke: its outputs, computed once over the training split and looked up by index."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.errors import UserError
from kdjax.models.model import Outputs
from kdjax.teachers.teacher import Frozen, Teacher
from kdjax.view import View


def cached(name: str = 'teacher') -> Teacher:
    """Logits `frozen[name]` `[examples, classes]`, read at `batch.index`.

    The student must see the images that the teacher saw: a cache made without augmentation teaches a student that
    is trained without augmentation. An index beyond the cache gives NaN, which stops the run, never another row.
    """

    def init(frozen, example, variables):
        if jnp.ndim(frozen[name]) != 2:
            raise UserError(
                f"the cache '{name}' has shape {jnp.shape(frozen[name])}: logits [examples, classes] are needed"
            )
        return {}

    def apply(memory, frozen, view, *, key):
        return Outputs(_rows(frozen[name], view))

    return Teacher(apply, init)


def cached_hidden(name: str = 'teacher') -> Teacher:
    """A language model: `frozen[name]` holds `hidden` `[examples, length, width]`, read at `batch.index`, and `head`.

    The prediction is the logits, float32 `[batch, length, vocabulary]`; taps `hidden` and `head` `[vocabulary, width]`.
    An index beyond the cache gives NaN.
    """

    def apply(memory, frozen: Frozen, view: View, *, key):
        hidden, head = _rows(frozen[name]['hidden'], view), jax.lax.stop_gradient(frozen[name]['head'])
        table = head.astype(hidden.dtype)
        logits = jnp.einsum('b t d, v d -> b t v', hidden, table, preferred_element_type=jnp.float32)
        return Outputs(logits, {'hidden': hidden, 'head': head})

    return Teacher(apply)


def _rows(table: jax.Array, view: View) -> jax.Array:
    rows = jnp.take(table, view['batch.index'], axis=0, mode='fill', fill_value=jnp.nan)
    return jax.lax.stop_gradient(rows)
