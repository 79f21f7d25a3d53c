"""Pairs of noise and sample that a flow joins, made once for all training rows."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.trajectory import guided
from kdjax.data.batches import evaluation_batches
from kdjax.diffusion.guidance import Guidance
from kdjax.diffusion.solving import Solver
from kdjax.models.model import Outputs
from kdjax.stage import Compute, Output
from kdjax.tasks.generating import Generating
from kdjax.tasks.task import Bound, Trained
from kdjax.teachers.teacher import Teacher
from kdjax.view import View

SAMPLED_AT_ONCE = 256


def recorded_pairs(
    task: Generating,
    trained: Trained,
    solver: Solver,
    steps: int,
    *,
    name: str,
    guidance: Guidance | None = None,
    shared: bool = False,
) -> Bound:
    """Noise and the sample that a flow makes of it, one pair for each training row, of the row's class.

    As a teacher called `pairs`: its prediction is the sample, its tap `noise` the noise. shared: one for all seeds.
    """
    config = dataclasses.asdict(task) | {'solver': repr(solver), 'intervals': steps, 'guidance': repr(guidance)}
    rows = jax.ShapeDtypeStruct((len(task.data['train']), *task.shape), np.float32)
    stage = Compute(
        name=name, module=__name__, config=config, inputs={'teacher': trained.variables}, data=task.data,
        call=functools.partial(_paired, task, trained, solver, steps, guidance), shared=shared,
        shapes=lambda inputs: {'noise': rows, 'sample': rows},
    )  # fmt: skip

    def apply(memory: Any, frozen: Any, view: View, *, key: jax.Array) -> Outputs:
        noise, sample = (frozen['pairs'][kind][view['batch.index']] for kind in ('noise', 'sample'))
        return Outputs(sample, {'noise': noise})

    return Bound(Teacher(apply), {'pairs': Output(stage)})


def _paired(
    task: Generating, trained: Trained, solver: Solver, steps: int, guidance: Guidance | None, inputs: Any, *, key: Any
) -> dict[str, np.ndarray]:
    plain = task.teacher_denoiser(inputs['teacher'], trained)
    denoiser = guided(plain, guidance)
    times = jnp.linspace(1.0, 0.0, steps + 1)

    @jax.jit
    def draw(batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        ready = task.prepared()(batch, key=key, train=False)
        made = solver(denoiser, denoiser.schedule.prior(ready['noise']), times, ready['label'], key=key)
        return ready['noise'], made

    kept = []
    for batch in evaluation_batches(task.data['train'], SAMPLED_AT_ONCE):
        where = batch.pop('where')
        kept.append([np.asarray(part)[where] for part in draw(batch)])
    noise, sample = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return {'noise': noise, 'sample': sample}
