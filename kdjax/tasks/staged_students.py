"""Students that are made in stages: rounds of progressive distillation, segments that grow, flows that are reflowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

from kdjax import teachers
from kdjax.algorithms.consistency_segmented import segmented_consistency
from kdjax.algorithms.trajectory import asking
from kdjax.algorithms.trajectory_progressive import progressive
from kdjax.algorithms.trajectory_reflow import one_step_regression, reflow
from kdjax.diffusion.solvers import Heun
from kdjax.objectives import term
from kdjax.stage import Output, Train
from kdjax.tasks.few_step_students import student_of, students_steps, weights_of
from kdjax.tasks.generating import DENOISES, Generating
from kdjax.tasks.recorded_pairs import recorded_pairs
from kdjax.tasks.task import Bound, Trained
from kdjax.view import View

Evaluates = Callable[[View], dict[str, jax.Array]]


def progressive_rounds(task: Generating, parts: Sequence[int], *, evaluates: Evaluates | None = None) -> Train:
    """Rounds at so many steps each, the teacher of the first is the task's, of each other the student of the last.

    The task's steps are divided evenly. evaluates: of every round; one step unless given.
    """
    bound, start = task.live_teacher(), None
    evaluates = evaluates or students_steps(task)
    for n in parts:
        loss = term(
            asking(progressive, task.denoiser), 'batch.data', 'batch.label', 'student()', 'teacher()', steps=n
        )  # fmt: skip
        stage = student_of(
            task, loss, {'teacher': bound}, calls={'student': 3, 'teacher': 2}, evaluates=evaluates,
            steps=task.steps // len(parts), start=start, name=f'progressive_{n}',
        )  # fmt: skip
        start = weights_of(stage)
        bound = task.live_teacher(Trained(task.network(task.student), start))
    return stage


def segmented_stages(
    task: Generating,
    teacher: Bound,
    parts: Sequence[int],
    *,
    grid: int,
    decay: float,
    evaluates: Evaluates,
    fixed_end: bool = False,
    name: str = 'segmented',
) -> Train:
    """Stages of consistency within so many segments of the grid each; the target is the student's own average.

    The task's steps are divided evenly. decay: of the average. evaluates: of the last stage.
    """
    network, start = task.network(task.student), None
    average = Bound(teachers.ema(network, decay=decay, reads=DENOISES), {}, (network,))
    for segments in parts:
        loss = term(
            asking(segmented_consistency, task.denoiser), 'batch.data', 'batch.label', 'student()', 'average()',
            'teacher()', steps=grid, segments=segments, fixed_end=fixed_end,
        )  # fmt: skip
        stage = student_of(
            task, loss, {'teacher': teacher, 'average': average}, calls={'student': 3, 'average': 1, 'teacher': 1},
            evaluates=evaluates if segments == parts[-1] else students_steps(task),
            steps=task.steps // len(parts), start=start, name=f'{name}_{segments}',
        )  # fmt: skip
        start = weights_of(stage)
    return stage


# Flows and their pairs.


def flow_pairs(task: Generating, name: str, *, steps: int, stage: Train | None = None) -> dict[str, Bound]:
    """The pairs of the flow that a stage leaves, or of the task's teacher, by Heun's steps along the noise level."""
    trained = task.trained_teacher if stage is None else Trained(task.network(task.student), weights_of(stage))
    return {'pairs': recorded_pairs(task, trained, Heun(along='noise'), steps, name=name, shared=stage is None)}


def reflowed(
    task: Generating,
    pairs: dict[str, Bound],
    name: str,
    *,
    steps: int,
    start: Output | None = None,
    evaluates: Evaluates | None = None,
) -> Train:
    """A flow that learns straight paths between the noise and the samples of these pairs."""
    loss = term(asking(reflow, task.denoiser), 'pairs.noise', 'pairs', 'batch.label', 'student()')
    return student_of(
        task, loss, pairs, calls={'student': 3}, evaluates=evaluates or students_steps(task), steps=steps, start=start,
        name=name,
    )  # fmt: skip


def regressed(
    task: Generating,
    pairs: dict[str, Bound],
    *,
    steps: int,
    start: Output | None = None,
    evaluates: Evaluates | None = None,
    judges: dict[str, Bound] | None = None,
) -> Train:
    """A student that learns in one step the samples of these pairs. judges: teachers that the evaluation reads."""
    loss = term(asking(one_step_regression, task.denoiser), 'pairs.noise', 'pairs', 'batch.label', 'student()')
    return student_of(
        task, loss, {**pairs, **(judges or {})}, calls={'student': 3}, evaluates=evaluates or students_steps(task),
        steps=steps, start=start,
    )  # fmt: skip
