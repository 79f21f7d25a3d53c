"""Arms that sample a teacher and train nothing: samplers of so many evaluations, tuned on the validation split."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.trajectory import guided
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.guidance import Guidance
from kdjax.diffusion.schedules import Schedule
from kdjax.diffusion.solvers import DDIM, Heun
from kdjax.diffusion.solving import Solver
from kdjax.diffusion.tuned import Measure, Sampler, candidates, measured, refine, tune
from kdjax.stage import Compute
from kdjax.streams import stream
from kdjax.tasks.generating import HELD_OUT, Generating


def sampler_arm(
    task: Generating,
    about: str,
    choose: Callable[[Denoiser, Measure], Sampler],
    *,
    metric: str,
    exact: Denoiser | None = None,
    guidance: Guidance | None = None,
    schedule: Schedule | None = None,
) -> Compute:
    """An arm: the teacher's samples by a sampler that is chosen on the validation split.

    about: what is chosen, in words, part of the identity. choose: a sampler, from the denoiser and a measure of
    samplers: that metric of their samples from the noise of the validation rows, the less the better; '' where nothing
    is chosen.
    exact: the denoiser itself, where it is known; else the task's trained teacher. guidance: of it. schedule: under
    which it is sampled, the task's unless given.
    Leaves `samples` by split; measured as students are, with `nfe`.
    """
    inputs = {} if exact else {'teacher': task.trained_teacher.variables}
    if (reference := task.reference()) is not None:
        inputs['reference'] = reference
    config = dataclasses.asdict(task) | {'sampler': about, 'guidance': repr(guidance), 'metric': metric}
    config |= {'exact': exact is not None, 'under': repr(schedule)}
    call = functools.partial(_sampled, task, choose, metric, exact, guidance, schedule)
    sizes = {split: jax.ShapeDtypeStruct((len(task.data[split]), *task.shape), np.float32) for split in HELD_OUT}
    return Compute(
        name='sampled', module=type(task).__module__, config=config, inputs=inputs, data=task.data,
        call=call, shapes=lambda inputs: {'samples': sizes},
    )  # fmt: skip


def fixed(sampler: Sampler) -> Callable[[Denoiser, Measure], Sampler]:
    """No choice, for `sampler_arm`."""
    return lambda denoiser, measure: sampler


def ddim_arms(task: Generating, steps: Iterable[int], *, exact: Denoiser) -> dict[str, Compute]:
    """Arms `ddim_1`, ...: the exact denoiser by so many steps of DDIM."""

    def arm(n: int) -> Compute:
        return sampler_arm(task, f'DDIM in {n}', fixed(evenly(DDIM(), n)), metric='kl_to_data', exact=exact)

    return {f'ddim_{n}': arm(n) for n in steps}


def heun(task: Generating, steps: int) -> Compute:
    """An arm: EDM's sampler on the Karras ladder, two evaluations a step but the last (arXiv 2206.00364, alg. 1)."""
    return sampler_arm(task, f'Heun in {steps}', fixed(evenly(Heun(along='noise'), steps)), metric='')


def best_of(nfe: int, *, rounds: int = 1) -> Callable[[Denoiser, Measure], Sampler]:
    """The best sampler of so many evaluations, and its grid refined, for `sampler_arm`."""

    def choose(denoiser: Denoiser, measure: Measure) -> Sampler:
        found = tune(candidates(denoiser, nfe), measure, denoiser)
        return refine(found.best, measure, rounds=rounds, moves=(0.4,)).best

    return choose


def evenly(solver: Solver, steps: int) -> Sampler:
    """A solver on even times, which are the Karras ladder."""
    return Sampler(solver, tuple(float(t) for t in np.linspace(1.0, 0.0, steps + 1)), name=f'{solver!r}, {steps}')


def _sampled(
    task: Generating,
    choose: Callable[[Denoiser, Measure], Sampler],
    metric: str,
    exact: Denoiser | None,
    guidance: Guidance | None,
    schedule: Schedule | None,
    inputs: Any,
    *,
    key: jax.Array,
) -> tuple[dict[str, Any], dict[str, Any]]:
    plain = exact or task.teacher_denoiser(inputs['teacher'])
    plain = plain if schedule is None else plain.under(schedule)
    denoiser = guided(plain, guidance)
    fresh = stream(key, 'solver')

    def value(split: str, samples: Any) -> dict[str, float]:
        said = {'sample': np.asarray(samples), 'label': noises[split]['label']}
        reference = inputs['reference'][split] if 'reference' in inputs else None
        return task.measure()(said, jax.device_get(reference))

    noises = {split: _rows(task, split, key) for split in HELD_OUT}
    held = noises['validation']
    sampler = choose(
        denoiser,
        measured(
            denoiser,
            jnp.asarray(held['noise']),
            lambda samples: value('validation', samples)[metric],
            held['condition'],
            key=fresh,
        ),
    )
    draw = jax.jit(lambda noise, label: sampler(denoiser, noise, label, key=fresh))
    samples = {split: np.asarray(draw(rows['noise'], rows['condition'])) for split, rows in noises.items()}
    nfe = {'nfe': float(sampler.nfe(denoiser))}
    metrics = {split: value(split, made) | nfe for split, made in samples.items()}
    return {'samples': samples}, {'metrics': metrics, 'sampler': sampler.name}


def _rows(task: Generating, split: str, key: jax.Array) -> dict[str, np.ndarray]:
    """The noise of every row of a split, its class, and what it is told of it."""
    source = task.data[split]
    batch = source.take(np.arange(len(source)))
    ready = task.prepared()(batch, key=key, train=False)
    return {
        'noise': np.asarray(ready['noise']),
        'condition': np.asarray(ready['label']),
        'label': np.asarray(batch['label']),
    }
