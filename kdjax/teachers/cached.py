"""A teacher that already spoke: its outputs, computed once over the training split and looked up by index."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.errors import UserError
from kdjax.models.model import Outputs
from kdjax.teachers.teacher import Teacher


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
        table = frozen[name]
        rows = jnp.take(table, view['batch.index'], axis=0, mode='fill', fill_value=jnp.nan)
        return Outputs(jax.lax.stop_gradient(rows))

    return Teacher(apply, init)
