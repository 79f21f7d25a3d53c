"""Students of few steps along a teacher's path: how they learn, are sampled and measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses
from kdjax.algorithms import Player
from kdjax.algorithms.consistency_continuous import tangents_of
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.solvers import DDIM, Heun, Renoise
from kdjax.objectives import Objective
from kdjax.stage import Output, Train
from kdjax.streams import stream
from kdjax.tasks.generating import Generating
from kdjax.tasks.task import Bound
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
    others: Mapping[str, Player] | None = None,
    **options: Any,
) -> Train:
    """An arm: the teacher's network, from its weights or those of `start`, minimises one objective that calls it.

    The address `'student()'` is the network itself, with the raw output. calls: see `Player`; those of teachers that
    are no networks are left out. evaluates: one of `students_steps`, say. learning_rate: in place of the task's.
    others: players who move before the student in each step. options: of `Task.play`.
    """
    networks = {*(others or {}), *(name for name, teacher in bound.items() if teacher.models)}
    paid = {name: passes for name, passes in calls.items() if name == 'student' or name in networks}
    player = task.follower(objective, spec=task.student, moves=1, calls=paid)
    player = dataclasses.replace(player, optimizer=task.optimizer(steps, learning_rate))
    inputs = {'start': start or task.trained_teacher.variables}
    return task.play(
        {**(others or {}), 'student': player}, bound, steps=steps, inputs=inputs, evaluates=evaluates,
        turns='in_order', **options,
    )  # fmt: skip


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

    levels: `mean` and `deviation` of the logarithm of the noise level, and `guidance`, as in `continuous_consistency`.
    For `more` of `students_steps`; metrics are its median and 95 % quantile.
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
