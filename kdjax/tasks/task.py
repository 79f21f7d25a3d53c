"""What every task is: data, models, teachers and arms. A task of a field says what is particular to it."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import optax

from kdjax import teachers
from kdjax.algorithms import Player, play
from kdjax.algorithms.players import Evaluates, Prepare
from kdjax.data.dataset import Dataset
from kdjax.models.model import Model
from kdjax.objectives import Objective
from kdjax.stage import Output, Train
from kdjax.tasks.cost import check_calls, cost
from kdjax.teachers import Teacher


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model and the stage output that holds its variables."""

    model: Model
    variables: Output


@dataclasses.dataclass(frozen=True)
class Bound:
    """A teacher with what it reads of other stages, and what it costs.

    models: those that run beside the student. cache_bytes: of what was computed before.
    """

    teacher: Teacher
    inputs: Mapping[str, Output]
    models: tuple[Model, ...] = ()
    cache_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """What every experiment can be told. Models are named by specifications that the task's `model` reads."""

    reads: ClassVar[tuple[str, ...]]
    """The addresses of a model's inputs."""

    student: str
    teacher: str
    batch: int = 64
    steps: int = 500
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    teacher_steps: int = 500
    teacher_learning_rate: float = 2e-3
    evaluations: int = 10

    # What a task says of its field.

    @property
    @abc.abstractmethod
    def data(self) -> Dataset:
        """What students train on and are measured on."""

    @abc.abstractmethod
    def model(self, spec: str) -> Model:
        """A model for this data, by name."""

    @abc.abstractmethod
    def prepared(self) -> Prepare:
        """From a stored batch to what the step reads."""

    @abc.abstractmethod
    def example(self) -> Any:
        """The shapes of a model's inputs for one example."""

    def judges(self) -> Mapping[str, Bound]:
        """Teachers that every arm is measured with, whether it learns from them or not."""
        return {}

    def evaluated(self) -> Evaluates | None:
        """What evaluation returns; None: the prediction of every player that reads the batch."""
        return None

    @abc.abstractmethod
    def measure(self) -> Callable[..., dict[str, float]]:
        """Metrics of that, see `stage.Train`."""

    def reference(self) -> Output | None:
        """What metrics compare with, by split."""
        return None

    # What is the same everywhere.

    def optimizer(self, steps: int | None = None, learning_rate: float | None = None) -> optax.GradientTransformation:
        """AdamW with a cosine schedule to zero, the same for every arm."""
        schedule = optax.cosine_decay_schedule(learning_rate or self.learning_rate, steps or self.steps)
        return optax.adamw(schedule, weight_decay=self.weight_decay)

    @property
    @abc.abstractmethod
    def trained_teacher(self) -> Trained:
        """The task's teacher, trained once and shared by every experiment with the same settings."""

    def live_teacher(self, trained: Trained | None = None, *, name: str = 'teacher') -> Bound:
        """A trained model applied to every batch; the task's teacher unless another is given."""
        trained = trained or self.trained_teacher
        reads = self.reads if len(self.reads) > 1 else self.reads[0]
        teacher = teachers.live(trained.model, weights=name, reads=reads)
        return Bound(teacher, {name: trained.variables}, (trained.model,))

    def arm(
        self,
        objective: Objective,
        teacher: Bound | None = None,
        *,
        model: str | None = None,
        steps: int | None = None,
        start: Output | None = None,
        name: str = 'arm',
        reference: Output | None = None,
        **options: Any,
    ) -> Train:
        """One student that minimises one objective. `start`: variables to begin from. See `play` for the rest."""
        player = self.player(objective, model=model, steps=steps, start='start' if start else None)
        return self.play(
            {'student': player},
            {'teacher': teacher} if teacher else {},
            steps=steps,
            inputs={'start': start} if start else {},
            name=name,
            reference=reference,
            **options,
        )

    def player(
        self, objective: Objective, *, model: str | None = None, steps: int | None = None, start: str | None = None
    ) -> Player:
        """A learner with the task's optimizer; `start` names the input that holds its first variables."""
        return Player(self.model(model or self.student), objective, self.optimizer(steps), self.reads, start)

    def play(
        self,
        players: Mapping[str, Player],
        bound: Mapping[str, Bound] | None = None,
        *,
        steps: int | None = None,
        batch: int | None = None,
        inputs: Mapping[str, Output] | None = None,
        name: str = 'arm',
        evaluates: Evaluates | None = None,
        reference: Output | None = None,
        **options: Any,
    ) -> Train:
        """Any players and teachers on this task's data. The player `student` is measured, others under their name.

        name: of a stage that other stages read; the last stage of an arm gets the arm's. steps, batch, evaluates,
        reference: in place of the task's. options: of `kdjax.algorithms.play`.
        """
        bound, steps, batch = {**self.judges(), **(bound or {})}, steps or self.steps, batch or self.batch
        check_calls(players, bound)
        algorithm = play(
            players,
            teachers={n: b.teacher for n, b in bound.items()},
            prepare=self.prepared(),
            evaluates=evaluates or self.evaluated(),
            **options,
        )
        read = dict(inputs or {})
        for b in bound.values():
            read |= b.inputs
        return Train(
            name=name, module=type(self).__module__, config=dataclasses.asdict(self), inputs=read, algorithm=algorithm,
            data=self.data, batch=batch, steps=steps, evaluate_every=max(1, steps // self.evaluations),
            measure=self.measure(), reference=reference or self.reference(),
            cost=functools.partial(
                cost, players, bound, self.example(), batch * steps, turns=options.get('turns', 'together')
            ),
        )  # fmt: skip
