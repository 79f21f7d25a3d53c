"""What tasks of generators share: arms that match distributions, players beside them, what is evaluated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax.algorithms import Player
from kdjax.algorithms.generators import Terms, sampled, simulated
from kdjax.objectives import Objective
from kdjax.stage import Output, Train
from kdjax.streams import stream
from kdjax.tasks.denoising import DENOISES as DENOISES
from kdjax.tasks.denoising import HELD_OUT as HELD_OUT
from kdjax.tasks.denoising import PREDICTS as PREDICTS
from kdjax.tasks.denoising import Denoising
from kdjax.tasks.task import Bound
from kdjax.view import View

LONGEST = 10.0


@dataclasses.dataclass(frozen=True)
class Generating(Denoising):
    """What every experiment on generators can be told."""

    # What is evaluated of a student.

    def evaluated(self) -> Callable[[View], dict[str, jax.Array]]:
        """One sample for each held-out row, of the row's class."""
        return lambda view: {'sample': view['student'].astype(jnp.float32)}

    def in_steps(self, times: Sequence[float]) -> Callable[[View], dict[str, jax.Array]]:
        """Evaluation of a student that is called at each of these falling times, with fresh noise in between."""

        def said(view: View) -> dict[str, jax.Array]:
            assert view.key is not None
            student, key = view['student()'], jax.random.fold_in(stream(view.key, 'steps'), view['batch.index'][0])
            x = sampled(
                lambda *inputs: student(inputs).prediction, view['batch.prior'], view['batch.label'], self.schedule,
                times, key=key,
            )  # fmt: skip
            return {'sample': x.astype(jnp.float32)}

        return said

    def terms_in_steps(self, made: Callable[..., jax.Array], first: str, times: Sequence[float]) -> Terms:
        """Terms on what the student makes at one of these falling times (DMD2, arXiv 2405.14867, section 4.5).

        made: `simulated` from `first='prior'`, in states that the student has led to, or `from_data` from 'data'.
        """

        def sample(student, first, condition, *, key):
            return made(lambda *inputs: student(inputs).prediction, first, condition, self.schedule, times, key=key)

        passes = len(times) - 1 if made is simulated else 0
        reads = 'student()', f'batch.{first}', 'batch.label'
        return Terms(self.denoiser, reads, sample, making=(passes + 3, passes + 1))

    # Players beside the generator.

    def follower(
        self,
        objective: Objective,
        *,
        spec: str | None = None,
        moves: int = 5,
        calls: Mapping[str, float | int] | None = None,
        start: str | None = 'start',
        learning_rate: float | None = None,
    ) -> Player:
        """A network that denoises and learns beside the generator: a fake score, from the teacher's weights.

        spec: the teacher's unless given. start: the name of the input that holds its first variables. moves, calls: see
        `Player`; `calls` states the passes of networks that the objective calls, its own among them. Its
        learning rate, the task's unless given, falls to zero over all its moves in the task's steps.
        """
        network = self.network(spec or self.teacher)
        optimizer = self.optimizer(moves * self.steps, learning_rate)
        return Player(network, objective, optimizer, DENOISES, start, moves=moves, calls=calls or {})

    def matched(
        self,
        objective: Objective,
        following: Objective,
        teacher: Bound,
        *,
        terms: Terms,
        moves: int = 5,
        steps: int | None = None,
        start: Output | None = None,
        learning_rate: float | None = None,
        momentum: float | None = None,
        langevin: int = 0,
        **options: Any,
    ) -> Train:
        """An arm: a follower `fake` that moves so many times a step, then the student, who sees what it has learned.

        Both begin with the teacher's weights. start: other first weights of the student. learning_rate, momentum: of
        both, in place of the task's. langevin: see `Terms.calls`.
        """
        steps = steps or self.steps

        def calls(objective: Objective, *, own: bool) -> dict[str, int]:
            asked = terms.calls(objective, own=own, langevin=langevin)
            return {name: passes for name, passes in asked.items() if name != 'teacher' or teacher.models}

        inputs = {'start': self.trained_teacher.variables}
        begun = 'start'
        if start is not None:
            inputs, begun = {**inputs, 'begun': start}, 'begun'
        student = dataclasses.replace(
            self.player(objective, start=begun),
            optimizer=self._matching_optimizer(steps, learning_rate, momentum),
            calls=calls(objective, own=True),
        )
        fake = dataclasses.replace(
            self.follower(following, moves=moves, calls=calls(following, own=False)),
            optimizer=self._matching_optimizer(moves * steps, learning_rate, momentum),
        )
        return self.play(
            {'fake': fake, 'student': student}, {'teacher': teacher}, steps=steps, inputs=inputs, turns='in_order',
            **options,
        )  # fmt: skip

    def _matching_optimizer(
        self, steps: int, learning_rate: float | None, momentum: float | None
    ) -> optax.GradientTransformation:
        """As the task's, with its momentum; a gradient is at most `LONGEST` long, as in DMD2."""
        schedule = optax.cosine_decay_schedule(learning_rate or self.learning_rate, steps)
        b1 = self.momentum if momentum is None else momentum
        adam = optax.adamw(schedule, b1=b1, weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(LONGEST), adam)
