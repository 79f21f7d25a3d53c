"""Students of few steps along a teacher's path: how they learn, are sampled and measured, and samplers beside them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses
from kdjax.algorithms.consistency_continuous import tangents_of
from kdjax.algorithms.trajectory import guided
from kdjax.data.batches import evaluation_batches
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.guidance import Guidance
from kdjax.diffusion.schedules import Schedule
from kdjax.diffusion.solvers import DDIM, Heun, Renoise
from kdjax.diffusion.solving import Solver
from kdjax.diffusion.tuned import Measure, Sampler, candidates, measured, refine, tune
from kdjax.models.model import Outputs
from kdjax.objectives import Objective
from kdjax.stage import Compute, Output, Train
from kdjax.streams import stream
from kdjax.tasks.generating import HELD_OUT, SAMPLED_AT_ONCE, Generating
from kdjax.tasks.task import Bound, Trained
from kdjax.teachers.teacher import Teacher
from kdjax.view import View

Said = dict[str, jax.Array]

TANGENT_QUANTILES = {'median': 0.5, 'p95': 0.95}

# Learning.


def student_of(
    task: Generating,
    objective: Objective,
    bound: Mapping[str, Bound],
    *,
    calls: Mapping[str, float | int],
    evaluates: Callable[[View], Said],
    steps: int | None = None,
    start: Output | None = None,
    learning_rate: float | None = None,
    **options: Any,
) -> Train:
    """An arm: the teacher's network, from its weights or those of `start`, minimises one objective that calls it.

    The address `'student()'` is the network itself, with the raw output. calls: see `Player`; those of teachers that
    are no networks are left out. evaluates: one of `students_steps`, say. learning_rate: in place of the task's.
    options: of `Task.play`.
    """
    networks = {name for name, teacher in bound.items() if teacher.models}
    paid = {name: passes for name, passes in calls.items() if name == 'student' or name in networks}
    player = task.follower(objective, spec=task.student, moves=1, calls=paid)
    player = dataclasses.replace(player, optimizer=task.optimizer(steps, learning_rate))
    inputs = {'start': start or task.trained_teacher.variables}
    return task.play({'student': player}, bound, steps=steps, inputs=inputs, evaluates=evaluates, **options)


def weights_of(stage: Train) -> Output:
    """The student that an earlier stage leaves."""
    return stage['variables']['student']


# Sampling and measuring.


def in_steps(denoiser: Denoiser, noise: Any, label: Any, steps: int, *, key: jax.Array, renoise: bool) -> jax.Array:
    """Samples by so many evaluations, at times that are even in the schedule's own.

    renoise: the data expected, with fresh noise, is the next state (consistency models); else DDIM's steps.
    """
    schedule, times = denoiser.schedule, jnp.linspace(1.0, 0.0, steps + 1)
    if not renoise:
        return DDIM()(denoiser, schedule.prior(noise), times, label)
    if steps == 1:
        return denoiser.data(schedule.prior(noise), 1.0, label)
    return Renoise()(denoiser, schedule.prior(noise), times[:-1], label, key=key, to_data=True)


def students_steps(
    task: Generating,
    steps: tuple[int, ...] = (1,),
    *,
    renoise: bool = False,
    more: Callable[[View, Denoiser, jax.Array], Said] = lambda view, denoiser, sample: {},
) -> Callable[[View], Said]:
    """What evaluation returns of a student: `sample` by the first of these numbers of steps, `sample_4` by 4, ...

    more: other values of each row, of the view, the student and `sample`.
    """

    def said(view: View) -> Said:
        denoiser = task.denoiser(view['student()'], 'student')
        assert view.key is not None
        made = {
            'sample' if n == steps[0] else f'sample_{n}': in_steps(
                denoiser, view['batch.noise'], view['batch.label'], n, key=stream(view.key, f'{n} steps'),
                renoise=renoise,
            )
            for n in steps
        }  # fmt: skip
        return made | more(view, denoiser, made['sample'])

    return said


def off_path(task: Generating, view: View, sample: jax.Array, *, steps: int = 16) -> jax.Array:
    """The squared distance, a mean over features, of each sample from where the teacher's ODE leads from its noise.

    By Heun's steps on the Karras ladder.
    """
    teacher = task.denoiser(view['teacher()'], 'teacher')
    prior, times = teacher.schedule.prior(view['batch.noise']), jnp.linspace(1.0, 0.0, steps + 1)
    return losses.hint_mse(sample, Heun(along='noise')(teacher, prior, times, view['batch.label']))


def tangents(task: Generating, view: View, student: Denoiser, **levels: Any) -> Said:
    """`tangent`, the root mean square of the tangent of sCM at each row before it is normalised, on the teacher's path.

    levels: `mean` and `deviation` of the logarithm of the noise level, as in `continuous_consistency`. For `more` of
    `students_steps`; metrics are its median and 95 % quantile.
    """
    assert view.key is not None
    teacher = task.denoiser(view['teacher()'], 'teacher')
    g = tangents_of(
        view['batch.data'], view['batch.label'], student, teacher, key=stream(view.key, 'tangent'), **levels
    )  # fmt: skip
    return {'tangent': jnp.sqrt(losses.hint_mse(g, jnp.zeros_like(g)))}


class FewStepStudents:
    """Before a task among the bases: its students are measured at several numbers of steps, see `measuring`.

    No dataclass: it would bring the defaults of `Generating` along, over those of the task.
    """

    def measure(self) -> Callable[..., dict[str, float]]:
        return measuring(super().measure())  # type: ignore[misc]


def measuring(plain: Callable[..., dict[str, float]]) -> Callable[..., dict[str, float]]:
    """A task's metrics, of `sample` under their own names, of `sample_4` as `frechet_4` ..., and means of `error_*`.

    Of a `tangent`: `tangent_median` and `tangent_p95`.
    """

    def measure(said: Mapping[str, np.ndarray], reference: Any = None) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for name, values in said.items():
            if name.startswith('sample'):
                found = plain({**said, 'sample': values}, reference)
                metrics |= {metric + name.removeprefix('sample'): value for metric, value in found.items()}
            elif name.startswith('error_'):
                metrics[name] = float(np.mean(values, dtype=np.float64))
            elif name == 'tangent':
                metrics |= {f'tangent_{n}': float(np.quantile(values, q)) for n, q in TANGENT_QUANTILES.items()}
        return metrics

    return measure


# Samplers without training.


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
    samplers: that metric of their samples from the noise of the validation rows, the less the better.
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


# Pairs of noise and sample.


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
