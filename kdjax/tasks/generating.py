"""What tasks of generators share: arms that match distributions, samplers, what is evaluated."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax.algorithms import Player
from kdjax.algorithms.generators import Terms, sampled
from kdjax.algorithms.trajectory import guided
from kdjax.data.batches import evaluation_batches
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.guidance import Guidance
from kdjax.diffusion.solvers import Solver
from kdjax.objectives import Objective
from kdjax.stage import Compute, Output, Train
from kdjax.streams import stream
from kdjax.tasks.denoising import DENOISES as DENOISES
from kdjax.tasks.denoising import HELD_OUT as HELD_OUT
from kdjax.tasks.denoising import PREDICTS as PREDICTS
from kdjax.tasks.denoising import Denoising
from kdjax.tasks.task import Bound, Trained
from kdjax.view import View

SAMPLED_AT_ONCE = 256
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

    # Players beside the generator.

    def follower(
        self,
        objective: Objective,
        *,
        spec: str | None = None,
        moves: int = 5,
        calls: Mapping[str, float | int] | None = None,
        start: str | None = 'start',
    ) -> Player:
        """A network that denoises and learns beside the generator: a fake score, from the teacher's weights.

        spec: the teacher's unless given. start: the name of the input that holds its first variables. moves, calls: see
        `Player`; `calls` states the passes of networks that the objective calls, its own among them. Its
        learning rate falls to zero over all its moves in the task's steps.
        """
        network, optimizer = self.network(spec or self.teacher), self.optimizer(moves * self.steps)
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
        langevin: int = 0,
        **options: Any,
    ) -> Train:
        """An arm: a follower `fake` that moves so many times a step, then the student, who sees what it has learned.

        Both begin with the teacher's weights. start: other first weights of the student. learning_rate: of both, in
        place of the task's. langevin: see `Terms.calls`.
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
            optimizer=self._matching_optimizer(steps, learning_rate),
            calls=calls(objective, own=True),
        )
        fake = dataclasses.replace(
            self.follower(following, moves=moves, calls=calls(following, own=False)),
            optimizer=self._matching_optimizer(moves * steps, learning_rate),
        )
        return self.play(
            {'fake': fake, 'student': student}, {'teacher': teacher}, steps=steps, inputs=inputs, turns='in_order',
            **options,
        )  # fmt: skip

    def _matching_optimizer(self, steps: int, learning_rate: float | None) -> optax.GradientTransformation:
        """As the task's, with its momentum; a gradient is at most `LONGEST` long, as in DMD2."""
        schedule = optax.cosine_decay_schedule(learning_rate or self.learning_rate, steps)
        adam = optax.adamw(schedule, b1=self.momentum, weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(LONGEST), adam)

    # Samplers of many steps.

    def sampled(
        self,
        solver: Solver,
        steps: int,
        *,
        guidance: Guidance | None = None,
        trained: Trained | None = None,
        name: str = 'sampled',
    ) -> Compute:
        """An arm: the teacher's samples by a solver on `steps` + 1 even times, from the noise of each held-out row.

        Even times are the Karras ladder, on which `Heun(along='noise')` is EDM's sampler. guidance: none unless given.
        Leaves `samples` by split; measured as students are, with `nfe`.
        """
        trained = trained or self.trained_teacher
        inputs = {'teacher': trained.variables}
        if (reference := self.reference()) is not None:
            inputs['reference'] = reference
        config = dataclasses.asdict(self) | {'solver': repr(solver), 'intervals': steps, 'guidance': repr(guidance)}
        return Compute(
            name=name, module=type(self).__module__, config=config, inputs=inputs, data=self.data,
            call=functools.partial(self._sampled, solver, steps, guidance, trained), shapes=self._sample_shapes,
        )  # fmt: skip

    def _sampled(
        self, solver: Solver, steps: int, guidance: Guidance | None, trained: Trained, inputs: Any, *, key: jax.Array
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        times = jnp.linspace(1.0, 0.0, steps + 1)

        def denoiser(variables: Any) -> Denoiser:
            return guided(self.teacher_denoiser(variables, trained), guidance)

        @jax.jit
        def draw(variables: Any, batch: Mapping[str, Any]) -> jax.Array:
            ready = self._prepare(batch, key=key, train=False)
            fresh = jax.random.fold_in(stream(key, 'solver'), batch['index'][0])
            x = self.schedule.prior(ready['noise'])
            return solver(denoiser(variables), x, times, ready['label'], key=fresh)

        samples, metrics = {}, {}
        nfe = float(solver.nfe(denoiser(inputs['teacher']), times))
        for split in HELD_OUT:
            said = _over_split(functools.partial(draw, inputs['teacher']), self.data[split])
            reference = inputs['reference'][split] if 'reference' in inputs else None
            samples[split] = said['sample']
            metrics[split] = self.measure()(said, jax.device_get(reference)) | {'nfe': nfe}
        return {'samples': samples}, {'metrics': metrics}

    def _sample_shapes(self, inputs: Any) -> dict[str, Any]:
        del inputs
        sizes = {split: (len(self.data[split]), *self.shape) for split in HELD_OUT}
        return {'samples': {split: jax.ShapeDtypeStruct(size, np.float32) for split, size in sizes.items()}}


def _over_split(draw: Callable[[Any], jax.Array], source: Any) -> dict[str, np.ndarray]:
    kept: dict[str, list[np.ndarray]] = {'sample': [], 'label': []}
    for batch in evaluation_batches(source, SAMPLED_AT_ONCE):
        where = batch.pop('where')
        kept['sample'].append(np.asarray(draw(batch))[where])
        kept['label'].append(batch['label'][where])
    return {name: np.concatenate(parts) for name, parts in kept.items()}
