"""Arms of continuous-time consistency (sCM), alone or with rollouts (rCM) or a critic (SANA-Sprint).

An arm is sCM and any number of additions, or these alone:

    students = ContinuousStudents(task, (1, 2, 4), levels={'mean': 0.7, 'deviation': 1.6})
    {'scm': students.arm(), 'rcm': students.arm(rollouts(task, 0.02)), 'dmd': students.arm(rollouts(task), alone=True)}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from kdjax.algorithms import Player
from kdjax.algorithms.consistency_adversarial import adversarial_consistency, consistency_critic
from kdjax.algorithms.consistency_continuous import continuous_consistency, warming
from kdjax.algorithms.consistency_regularised import follows_rollouts, score_regularisation
from kdjax.algorithms.trajectory import asking
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.guidance import Guidance
from kdjax.models.heads_on import heads_on
from kdjax.objectives import Objective, term
from kdjax.stage import Train
from kdjax.tasks.few_step_students import student_of, students_steps, tangents
from kdjax.tasks.generating import DENOISES, Generating
from kdjax.tasks.task import Bound
from kdjax.view import View


@dataclasses.dataclass(frozen=True)
class Addition:
    """What joins sCM: a term of the student, the passes that it costs, and players who move before the student."""

    objective: Objective
    calls: Mapping[str, int]
    players: Mapping[str, Player]


@dataclasses.dataclass(frozen=True)
class ContinuousStudents:
    """What the arms of one experiment share.

    steps: numbers of steps in which students are measured, with fresh noise in between, and their tangents, see
    `tangents`. data: the address of the examples that sCM noises. bound: teachers beside `teacher`. guidance: of the
    teacher. levels: `mean` and `deviation` of the logarithm of sCM's noise; options: further ones of
    `continuous_consistency`. learning_rate: in place of the task's. The tangents grow over a quarter of the steps.
    """

    task: Generating
    steps: tuple[int, ...]
    data: str = 'batch.data'
    bound: Mapping[str, Bound] = dataclasses.field(default_factory=dict)
    guidance: Guidance | None = None
    levels: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    learning_rate: float | None = None

    def arm(self, *additions: Addition, alone: bool = False) -> Train:
        """sCM and these; `alone`: these without it."""
        parts = [*additions] if alone else [self._scm(), *additions]
        names = {name for part in parts for name in part.calls}
        return student_of(
            self.task, _sum([part.objective for part in parts]),
            {**self.bound, 'teacher': self.task.live_teacher(), 'warmup': Bound(warming(self.task.steps // 4), {})},
            calls={name: sum(part.calls.get(name, 0) for part in parts) for name in names},
            others={name: player for part in parts for name, player in part.players.items()},
            evaluates=self._evaluates(), learning_rate=self.learning_rate,
        )  # fmt: skip

    def _evaluates(self) -> Callable[[View], dict[str, jax.Array]]:
        def tangent(view: View, student: Denoiser, sample: jax.Array) -> dict[str, jax.Array]:
            del sample
            return tangents(self.task, view, student, guidance=self.guidance, **self.levels)

        return students_steps(self.task, self.steps, renoise=True, more=tangent)

    def _scm(self) -> Addition:
        objective = term(
            asking(continuous_consistency, self.task.denoiser), self.data, 'batch.label', 'student()', 'teacher()',
            'warmup', guidance=self.guidance, **self.levels, **self.options,
        )  # fmt: skip
        return Addition(objective, {'student': 4, 'teacher': 1 if self.guidance is None else 2}, {})


def rollouts(
    task: Generating,
    weight: float | int = 1.0,
    *,
    steps: int = 4,
    moves: int = 4,
    guidance: Guidance | None = None,
    learning_rate: float | None = None,
) -> Addition:
    """rCM's difference of two scores on the student's own samples of 1 to `steps` steps.

    The player `fake` follows those samples, so many moves to one of the student. learning_rate: of the fake score.
    """

    def asked(loss: Callable[..., jax.Array], *reads: str, **options: Any) -> Objective:
        where = 'batch.noise', 'batch.label', 'student()', *reads
        return term(asking(loss, task.denoiser), *where, steps=steps, **options)

    fake = task.follower(
        asked(follows_rollouts, 'fake()'), moves=moves, calls={'student': steps, 'fake': 3},
        learning_rate=learning_rate,
    )  # fmt: skip
    objective = weight * asked(score_regularisation, 'teacher()', 'fake()', guidance=guidance)
    calls = {'student': steps + 2, 'teacher': 1 if guidance is None else 2, 'fake': 1}
    return Addition(objective, calls, {'fake': fake})


def critic(
    task: Generating,
    weight: float | int,
    *,
    taps: Sequence[str],
    hidden: int,
    levels: Mapping[str, Any],
    at_most_noise: float | int = 0.5,
    mismatched: bool = True,
    learning_rate: float | None = None,
) -> Addition:
    """SANA-Sprint's critic of one-step data: perceptrons on taps of the frozen teacher, at fresh noise.

    hidden: their width. levels, at_most_noise, mismatched: see `adversarial_consistency` and `consistency_critic`.
    learning_rate: of the critic.
    """

    def judged(loss: Callable[..., jax.Array], **more: Any) -> Objective:
        def asked(x, condition, student, critic, *, key):
            def judge(x_t, t, told):
                return critic((x_t, t, told)).prediction

            options = {**levels, **more, 'at_most_noise': at_most_noise}
            return loss(x, condition, task.denoiser(student, 'student'), judge, key=key, **options)

        return term(asked, 'batch.data', 'batch.label', 'student()', 'critic()', name=loss.__name__)

    player = Player(
        heads_on(task.trained_teacher.model, taps, hidden=(hidden,)), judged(consistency_critic, mismatched=mismatched),
        task.optimizer(learning_rate=learning_rate), DENOISES, held='teacher',
        calls={'critic': 3 if mismatched else 2, 'student': 1},
    )  # fmt: skip
    return Addition(weight * judged(adversarial_consistency), {'student': 3, 'critic': 2}, {'critic': player})


def _sum(objectives: Sequence[Objective]) -> Objective:
    total = objectives[0]
    for each in objectives[1:]:
        total = total + each
    return total
