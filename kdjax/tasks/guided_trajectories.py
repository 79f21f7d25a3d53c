"""Trajectories of a guided teacher, recorded once for each training row: where they came by, and what it said there."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.trajectory_guidance import visited
from kdjax.data.batches import evaluation_batches
from kdjax.models.model import Outputs
from kdjax.stage import Compute, Output
from kdjax.streams import stream
from kdjax.tasks.generating import Generating
from kdjax.tasks.recorded_pairs import SAMPLED_AT_ONCE
from kdjax.tasks.task import Bound
from kdjax.teachers.teacher import Teacher
from kdjax.view import View

TAPS = ('states', 'said', 'scale')


def recorded_trajectories(task: Generating, times: tuple[float, ...], *, low: float, high: float) -> Bound:
    """DDIM trajectories of the task's teacher, from noise and class of each training row, one scale for each.

    times: falling; nothing is stored at the last. The scale of null + scale (cond - null) is uniform in [low, high].
    As a teacher: the prediction is the guided raw output at each step `[batch, steps, ...]`; taps `states`, `said`,
    `scale` `[batch]`, and `times` `[batch, steps]`. One for all seeds.
    """
    config = dataclasses.asdict(task) | {'times': times, 'low': low, 'high': high}
    rows, steps = len(task.data['train']), len(times) - 1
    states = jax.ShapeDtypeStruct((rows, steps, *task.shape), np.float32)
    shapes = {'states': states, 'said': states, 'scale': jax.ShapeDtypeStruct((rows,), np.float32)}
    stage = Compute(
        name='trajectories', module=__name__, config=config, inputs={'teacher': task.trained_teacher.variables},
        data=task.data, call=functools.partial(_recorded, task, times, low, high), shared=True,
        shapes=lambda inputs: shapes,
    )  # fmt: skip

    def apply(memory: Any, frozen: Any, view: View, *, key: jax.Array) -> Outputs:
        taps = {tap: frozen['trajectories'][tap][view['batch.index']] for tap in TAPS}
        at = jnp.asarray(times[:-1], jnp.float32)[None]
        taps['times'] = jnp.broadcast_to(at, (len(taps['scale']), steps))
        return Outputs(taps['said'], taps)

    return Bound(Teacher(apply), {'trajectories': Output(stage)})


def _recorded(
    task: Generating, times: tuple[float, ...], low: float, high: float, inputs: Any, *, key: jax.Array
) -> dict[str, np.ndarray]:
    teacher = task.teacher_denoiser(inputs['teacher'])

    @jax.jit
    def draw(batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        ready = task.prepared()(batch, key=key, train=False)
        keys = jax.vmap(lambda row: jax.random.fold_in(stream(key, 'scale'), row))(jnp.asarray(batch['index']))
        scale = jax.vmap(lambda one: jax.random.uniform(one, (), jnp.float32, low, high))(keys)
        found = visited(teacher, ready['noise'], ready['label'], scale, jnp.asarray(times, jnp.float32))
        return {'states': found.states, 'said': found.said, 'scale': scale}

    kept: dict[str, list[np.ndarray]] = {tap: [] for tap in TAPS}
    for batch in evaluation_batches(task.data['train'], SAMPLED_AT_ONCE):
        where = batch.pop('where')
        for tap, values in draw(batch).items():
            kept[tap].append(np.asarray(values)[where])
    return {tap: np.concatenate(parts) for tap, parts in kept.items()}
