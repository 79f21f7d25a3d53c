"""Task `nested images`: small images with an MLP teacher whose most important units come first.

Every prefix of such a teacher is a smaller network, so students start as prefixes, and candidates for an
assistant are nested: they train together in shared weights, and one of them is chosen by what it then says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses, surgery
from kdjax.algorithms import Player
from kdjax.data.batches import evaluation_batches
from kdjax.models.model import Model, Variables
from kdjax.objectives import Objective
from kdjax.stage import Compute, Output, Train
from kdjax.tasks.small_images import SmallImages
from kdjax.tasks.task import Trained


@dataclasses.dataclass(frozen=True)
class NestedImages(SmallImages):
    """`SmallImages` with a teacher that is cut. scales: of the teacher's width, one for each candidate."""

    student: str = 'mlp-26-26'
    teacher: str = 'mlp-256-256'
    norm: str = 'none'
    scales: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

    @cached_property
    def sorted_teacher(self) -> Trained:
        """The teacher with its hidden units by falling importance on the student's training data."""
        model = self.model(self.teacher)
        call = partial(_sorted, model, self._plain_batches)
        inputs = {'variables': self.trained_teacher.variables}
        return Trained(model, Output(self.compute('sorted_teacher', call, inputs, shared=True)))

    def prefix(self, spec: str) -> Output:
        """The first units of the sorted teacher, as variables of that model."""
        call = partial(surgery.keep_prefix, kept=self._widths(spec))
        inputs = {'variables': self.sorted_teacher.variables}
        return Output(self.compute(f'prefix/{spec}', call, inputs, shared=True))

    @cached_property
    def candidates(self) -> Model:
        """All candidates as one model with the weights of the teacher, see `surgery.nested`."""
        return surgery.nested(self.model(self.teacher), self._grid)

    def joint(self, objective: Objective, *, steps: int) -> Train:
        """All candidates, trained from the teacher together; it is `teacher`, they are `student`."""
        start = self.sorted_teacher.variables
        return self._several('joint', self.candidates, objective, self.sorted_teacher, start, steps)

    def trial(self, objective: Objective, joint: Train, *, start: Output, steps: int) -> Train:
        """A student of every candidate, all from the same `start`: `student` and `teacher` are many networks.

        The objective is weighted by their number, so that each learns as if it were alone.
        """
        number = len(self.scales)
        starts = self.compute('starts', partial(_stacked, number), {'variables': start}, shared=True)
        copies = surgery.copies(self.model(self.student), number)
        teacher = Trained(self.candidates, joint['variables']['student'])
        return self._several('trial', copies, float(number) * objective, teacher, Output(starts), steps)

    def choose(self, name: str, scores: Output, joint: Train) -> Compute:
        """The candidate with the highest score: its `variables`, for the teacher's model, and its `scale`."""
        call = partial(surgery.choose, kept=self._grid, scales=self.scales)
        inputs = {'scores': scores, 'variables': joint['variables']['student']}
        return self.compute(f'chosen/{name}', call, inputs)

    def compute(
        self, name: str, call: Callable[..., Any], inputs: Mapping[str, Output], *, shared: bool = False
    ) -> Compute:
        """A stage that calls a function of arrays with its inputs by keyword."""
        return Compute(
            name=name,
            module=type(self).__module__,
            config=dataclasses.asdict(self),
            inputs=inputs,
            shared=shared,
            call=partial(_by_keyword, call),
            data=self.data,
        )

    @property
    def _grid(self) -> tuple[tuple[int, ...], ...]:
        full = self._widths(self.teacher)
        return tuple(surgery.scaled(full, scale) for scale in self.scales)

    def _widths(self, spec: str) -> tuple[int, ...]:
        return surgery.widths(jax.eval_shape(self.model(spec).init, jax.random.key(0), None))

    def _plain_batches(self) -> Iterator[Mapping[str, Any]]:
        for batch in evaluation_batches(self.data['train'], self.batch):
            on_device = {name: jnp.asarray(values) for name, values in batch.items()}
            yield self.prepare(0)(on_device, key=jax.random.key(0), train=False)

    def _several(
        self, name: str, model: Model, objective: Objective, teacher: Trained, start: Output, steps: int
    ) -> Train:
        player = Player(model, objective, self.optimizer(steps), start='start')
        bound, inputs = {'teacher': self.live_teacher(teacher)}, {'start': start}
        made = self.play({'student': player}, bound, steps=steps, inputs=inputs, name=name)
        return dataclasses.replace(made, measure=_accuracy_of_each, reference=None)


def _by_keyword(call: Callable[..., Any], inputs: Mapping[str, Any], *, key: jax.Array) -> Any:
    del key
    return call(**inputs)


def _sorted(model: Model, batches: Callable[[], Iterator[Any]], variables: Variables) -> Variables:
    def loss(variables: Variables, batch: Mapping[str, jax.Array]) -> jax.Array:
        outputs, _ = model.apply(variables, batch['image'], key=jax.random.key(0), train=False)
        return jnp.mean(losses.cross_entropy(outputs.prediction, batch['label']), where=batch['where'])

    return surgery.by_importance(loss, variables, batches())


def _stacked(number: int, variables: Variables) -> Variables:
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * number), variables)


def _accuracy_of_each(said: Mapping[str, np.ndarray], reference: None) -> dict[str, float]:
    del reference
    found = surgery.accuracies(jnp.asarray(said['student']), jnp.asarray(said['label']))
    return {f'network{i}/accuracy': float(a) for i, a in enumerate(found)}
