"""TAID's teacher: how far the target is between student and teacher is remembered, and rises with progress."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from kdjax import losses
from kdjax.models.model import Outputs
from kdjax.teachers.teacher import Teacher, taught_in


def taid(
    teacher: Teacher, *, steps: int, student: str = 'student', name: str = 'teacher', start: float = 0.4, **options: Any
) -> Teacher:
    """The teacher with a tap `t`, for `term(losses.taid, 'student', 'teacher', 'teacher.t')`.

    steps: of the whole training. student, name: addresses of the two predictions. start, options: of
        `losses.taid_step`.
    t is updated once a step, whatever the accumulation, on the mean of the loss over the whole batch.
    Source: arXiv 2501.16937, algorithm 1.
    """

    def init(frozen, example, variables):
        return {'inner': teacher.init(frozen, example, variables), 'taid': losses.taid_start(start)}

    def apply(memory, frozen, view, *, key):
        said = teacher.apply(memory['inner'], frozen, view, key=key)
        return Outputs(said.prediction, {**said.taps, 't': memory['taid'].t})

    def update(memory, view, variables):
        where = view.batch.get('where')
        values = losses.taid(view[student], view[name], memory['taid'].t, where=where)
        count = values.size if where is None else jnp.maximum(jnp.sum(where, dtype=jnp.float32), 1.0)
        progress = jnp.asarray(view.step, jnp.float32) / steps
        state = losses.taid_step(memory['taid'], jnp.sum(values) / count, progress, start=start, **options)
        return {'inner': teacher.update(memory['inner'], view, variables), 'taid': state}

    def in_dtype(dtype: str) -> Teacher:
        return taid(taught_in(teacher, dtype), steps=steps, student=student, name=name, start=start, **options)

    return dataclasses.replace(teacher, init=init, apply=apply, update=update, function=None, in_dtype=in_dtype)
