"""What the prior of `multi-view sprites` itself draws, measured as scenes are: the ceiling of a score objective."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.batches import evaluation_batches
from kdjax.diffusion import Guidance
from kdjax.diffusion.solvers import DPMSolver, Solver
from kdjax.diffusion.times import by_log_snr
from kdjax.models.model import Variables
from kdjax.stage import Compute
from kdjax.streams import stream
from kdjax.tasks.scenes import measure_scenes
from kdjax.tasks.sprites import MultiViewSprites

FIRST, LAST = 0.99, 0.02
"""The grid of times, which ends where hardly any noise is left."""


def prior_samples(
    task: MultiViewSprites,
    *,
    steps: int = 12,
    guidance: Guidance | None = None,
    solver: Solver | None = None,
    batch: int = 96,
    name: str = 'samples',
) -> Compute:
    """One sample of the prior for every held-out image, of the same class and view, by `steps` steps of a solver.

    solver: DPM-Solver++(2M) unless given. The metrics are those of `measure_scenes` and `nfe`, evaluations of the
    network for one sample. Samples are independent, so that `view_consistency` is not theirs to reach.
    """
    solver = solver or DPMSolver()
    call = functools.partial(_sampled, task, solver, steps, guidance, batch)
    config = dataclasses.asdict(task) | {'solver': repr(solver), 'steps': steps, 'guidance': repr(guidance)}
    return Compute(
        name=name, module=__name__, config=config, data=task.data, call=call, shapes=lambda inputs: {},
        inputs={'prior': task.trained_teacher.variables, 'judge': task.trained_judge.variables},
    )  # fmt: skip


def _sampled(
    task: MultiViewSprites, solver: Solver, steps: int, guidance: Guidance | None, rows: int,
    inputs: Mapping[str, Variables], *, key: jax.Array,
):  # fmt: skip
    prior, judge = task.trained_teacher.model, task.trained_judge.model
    times = by_log_snr(task.schedule, steps, start=FIRST, end=LAST)

    def denoiser(variables: Variables):
        return task.denoiser(lambda given: prior.apply(variables, given, key=key, train=False)[0], guidance)

    @jax.jit
    def said(inputs: Mapping[str, Variables], batch: Mapping[str, Any], key: jax.Array) -> dict[str, jax.Array]:
        seen = task.prepared()(batch, key=key, train=False)
        noise = jax.random.normal(stream(key, 'noise'), seen['image'].shape)
        drawn = solver(
            denoiser(inputs['prior']), task.schedule.prior(noise), times, seen['condition'],
            key=stream(key, 'solver'), to_data=True,
        )  # fmt: skip
        found = {'picture': drawn} | {name: seen[name] for name in ('label', 'view', 'particle')}
        for prefix, images in (('', drawn), ('real_', seen['image'])):
            outputs, _ = judge.apply(inputs['judge'], images, key=key, train=False)
            found |= {f'{prefix}judged': outputs.prediction, f'{prefix}features': outputs.taps['pooled']}
        return found

    def measured(split: str) -> dict[str, float]:
        kept = []
        for number, stored in enumerate(evaluation_batches(task.data[split], rows)):
            where = stored.pop('where')
            on_device = {name: jnp.asarray(column) for name, column in stored.items()}
            outputs = said(inputs, on_device, stream(key, split, number))
            kept.append({name: np.asarray(value)[where] for name, value in outputs.items()})
        whole = {name: np.concatenate([part[name] for part in kept]) for name in kept[0]}
        nfe = solver.nfe(denoiser(inputs['prior']), times, to_data=True)
        return measure_scenes(whole, views=task.views) | {'nfe': float(nfe)}

    return {}, {'metrics': {split: measured(split) for split in ('validation', 'test')}}
