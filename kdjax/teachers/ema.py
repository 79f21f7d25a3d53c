"""The student's own running average as its teacher (mean teacher, arXiv 1703.01780, eq. 3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.models.model import Model, under
from kdjax.teachers.teacher import Teacher
from kdjax.view import Reads


def ema(model: Model, *, of: str = 'student', decay: float = 0.999, reads: Reads = 'batch.image') -> Teacher:
    """After each step, average <- decay * average + (1 - decay) * weights of `of`. Its batch statistics are copied.

    Once a step, from the last of the moves that `of` makes in it.
    """

    def init(frozen, example, variables):
        return jax.tree.map(jnp.asarray, variables[of])

    def function(memory, frozen, inputs, *, key):
        return model.apply(memory, inputs, key=key, train=False)[0]

    def apply(memory, frozen, view, *, key):
        return function(memory, frozen, view.inputs(reads), key=key)

    def update(memory, view, variables):
        params = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, memory['params'], variables[of]['params'])
        return {'params': params, 'stats': variables[of]['stats']}

    return Teacher(
        apply, init, update, forwards=1, function=function, memory_rules=model.rules,
        in_dtype=lambda dtype: ema(under(model, dtype=dtype), of=of, decay=decay, reads=reads),
    )  # fmt: skip
