"""Samples as people look at them, as points or pictures, and what the teacher makes of the same noise."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.diffusion.solvers import DDIM, DPMSolver, Heun
from kdjax.diffusion.times import by_log_snr
from kdjax.stage import Output
from kdjax.tasks.digit_diffusion import DigitDiffusion
from kdjax.tasks.exact_scenes import ExactScenes
from kdjax.tasks.generating import Generating
from kdjax.tasks.sprites import MultiViewSprites
from kdjax.tasks.view_samples import FIRST, LAST

COLUMNS, POINTS = 8, 512
"""How many pictures of each label are looked at, and how many points in all."""

STEPS = {'heun': 18, 'ddim': 50, 'dpm': 18}
"""Of the solvers by which teachers are sampled."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """What is known where a teacher is asked for samples.

    batch: stored rows. key: of the evaluation of the arms, from which the noise of rows is drawn. student: its
    variables in an arm that learns, with the noise of a scene. teachers: whose variables the arms have been taught by.
    read: what a stage left.
    """

    batch: Mapping[str, Any]
    key: jax.Array
    student: Any
    teachers: tuple[Output, ...]
    read: Callable[[Output], Any]


def rows_shown(samples: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Rows that are looked at: of points `[rows, dims]` the first ones, of pictures the first of each label."""
    if samples.ndim == 2:
        return np.arange(min(POINTS, len(samples)))
    return np.sort(np.concatenate([np.flatnonzero(label == one)[:COLUMNS] for one in np.unique(label)]))


def as_seen(task: Any, samples: np.ndarray) -> np.ndarray:
    """Points float32 as they are; pictures `[rows, height, width, channels]` uint8, as light as the data."""
    if samples.ndim == 2:
        return np.asarray(samples, np.float32)
    return np.round(255 * np.clip(_light(task, np.nan_to_num(samples)), 0.0, 1.0)).astype(np.uint8)


@functools.singledispatch
def _light(task: Any, samples: np.ndarray) -> np.ndarray:
    del task
    return samples


@_light.register
def _(task: DigitDiffusion, samples: np.ndarray) -> np.ndarray:
    return task.pictures(samples)


@_light.register
def _(task: ExactScenes, samples: np.ndarray) -> np.ndarray:
    return samples * task.world.deviation + task.world.mean


@_light.register
def _(task: MultiViewSprites, samples: np.ndarray) -> np.ndarray:
    del task
    return (samples + 1) / 2


@functools.singledispatch
def of_teacher(task: Any, shown: Shown) -> tuple[np.ndarray, str] | None:
    """Samples of the teacher from the noise that the arms had, and in words who that is; None in tasks without one."""
    del task, shown
    return None


@of_teacher.register
def _(task: Generating, shown: Shown) -> tuple[np.ndarray, str]:
    trained = task.trained_teacher.variables
    exact = getattr(task, 'exact_denoiser', None)
    if exact is None or any(each.stage is trained.stage for each in shown.teachers):
        denoiser, who = task.teacher_denoiser(shown.read(trained)), 'the trained teacher'
    else:
        denoiser, who = exact(), 'the exact score of the data'
    solver, times = Heun(along='noise'), jnp.linspace(1.0, 0.0, STEPS['heun'] + 1)
    ready = task.prepared()(shown.batch, key=shown.key, train=False)
    draw = jax.jit(lambda noise, label: solver(denoiser, task.schedule.prior(noise), times, label))
    return np.asarray(draw(ready['noise'], ready['label'])), f'{who}, {solver.nfe(denoiser, times)} evaluations'


@of_teacher.register
def _(task: ExactScenes, shown: Shown) -> tuple[np.ndarray, str]:
    prior = task.prior if task.scale == 1 else task.prior.guided(task.guidance, task.null)
    return _of_scenes(task, shown, prior, DDIM(), jnp.linspace(1.0, 0.0, STEPS['ddim'] + 1)), 'the exact prior by DDIM'


@of_teacher.register
def _(task: MultiViewSprites, shown: Shown) -> tuple[np.ndarray, str]:
    network, variables = task.trained_teacher.model, shown.read(task.trained_teacher.variables)
    prior = task.denoiser(lambda given: network.apply(variables, given, key=shown.key, train=False)[0])
    times = by_log_snr(task.schedule, STEPS['dpm'], start=FIRST, end=LAST)
    return _of_scenes(task, shown, prior, DPMSolver(), times), 'the trained prior, each view on its own'


def _of_scenes(task: Any, shown: Shown, prior: Any, solver: Any, times: jax.Array) -> np.ndarray:
    """From the noise that belongs to the particles."""
    model, ready = task.model(task.student), task.prepared()(shown.batch, key=shown.key, train=False)

    @jax.jit
    def draw(variables: Any, inputs: tuple[Any, ...], condition: jax.Array) -> jax.Array:
        noise = model.apply(variables, inputs, key=shown.key, train=False)[0].taps['noise']
        return solver(prior, prior.schedule.prior(noise), times, condition, to_data=True)

    inputs = tuple(jnp.asarray(ready[address.removeprefix('batch.')]) for address in task.reads)
    return np.asarray(draw(shown.student, inputs, jnp.asarray(ready['condition'])))
