"""Students that say the average velocity between two times (MeanFlow)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from kdjax.algorithms import Player
from kdjax.algorithms.trajectory_mean_flow import mean_flow_sample, mean_velocity_matching
from kdjax.models.model import Outputs
from kdjax.models.named_denoiser import named_denoiser
from kdjax.models.two_times import one_or_two_times
from kdjax.objectives import term
from kdjax.stage import Train
from kdjax.tasks.generating import DENOISES, Generating
from kdjax.view import View


def mean_flow(task: Generating, steps: Sequence[int]) -> Train:
    """An arm: a network of two times, which begins from nothing, on the teacher's velocities; samples by so many steps.

    Source: arXiv 2505.13447.
    """

    def loss(x: jax.Array, condition: Any, student: Any, teacher: Any, *, key: jax.Array) -> jax.Array:
        return mean_velocity_matching(x, condition, _velocity(student), task.denoiser(teacher, 'teacher'), key=key)

    def said(view: View) -> dict[str, jax.Array]:
        noise, told, student = view['batch.noise'], view['batch.label'], _velocity(view['student()'])
        made = {n: mean_flow_sample(noise, told, student, steps=n) for n in steps}
        return {'sample' if n == steps[0] else f'sample_{n}': sample for n, sample in made.items()}

    network = one_or_two_times(named_denoiser(task.student, classes=task.classes, shape=task.shape, times=2))
    objective = term(loss, 'batch.data', 'batch.label', 'student()', 'teacher()', name='mean_flow')
    player = Player(network, objective, task.optimizer(), DENOISES, calls={'student': 4, 'teacher': 1})
    return task.play({'student': player}, {'teacher': task.live_teacher()}, evaluates=said)


def _velocity(function: Callable[[Any], Outputs]) -> Callable[..., jax.Array]:
    return lambda x, r, t, condition: function((x, (t, r), condition)).prediction
