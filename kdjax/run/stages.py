"""Executing stages: each once per content, through the store."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from kdjax.algorithms.algorithm import PLAIN, Execution, State, executed
from kdjax.experiment import ARM
from kdjax.run import identity
from kdjax.run.course import Course
from kdjax.run.fit import Events, fit, predict
from kdjax.run.group import distributed
from kdjax.run.layout import Layout, single
from kdjax.run.program import Program
from kdjax.run.store import Store
from kdjax.stage import Artifact, Compute, Stage, Train, graph
from kdjax.streams import stream

CURVE_SPLIT = 'validation'
"""Learning curves are drawn on this split; the test split is read once, at the end."""

HELD_OUT = ('validation', 'test')
EVENTS = Events()
LONGEST_STAGE = 7 * 86400.0
"""Seconds that a process waits for the one that writes: computing a cache takes what it takes."""

ADDS_UP = ('student_flops', 'teacher_flops', 'teacher_queries', 'seconds')
"""The costs that add up over the stages of an arm."""

Say = Callable[[str], None]


def machine(layout: Layout, execution: Execution) -> dict[str, Any]:
    """What the rounding of a stage that trains depends on, besides what it is told."""
    return {'device': identity.device(), 'layout': layout.identity, 'execution': dataclasses.asdict(execution)}


class Executor:
    """Runs stages for the seeds of a verification. Compiled programs are kept, so seeds share them.

    module: where the arms are written; its code is part of the identity of every stage that is not shared.
    base_seed: the seed of shared stages (teachers); per-seed stages get their own.
    layout, execution: which devices, and how steps are computed; of every stage that trains.
    """

    def __init__(
        self,
        store: Store,
        *,
        module: str,
        base_seed: int = 0,
        say: Say = lambda _: None,
        layout: Layout | None = None,
        execution: Execution = PLAIN,
    ):
        self.store, self.module, self.base_seed, self.say = store, module, base_seed, say
        self.layout, self.execution = layout or single(), execution
        self._made_on = machine(self.layout, execution)
        self._programs: dict[int, Program] = {}

    def go_on(self, stage: Stage, seed: int, began: Mapping[str, Any]) -> bool:
        """Read what the stages before this one made on the machine `began`; False if it is not all in the store.

        A run that began there goes on with it: a teacher that is trained again elsewhere is another, by its rounding.
        """
        here, self._made_on = self._made_on, {name: began.get(name) for name in self._made_on}
        before = [made for (made,) in graph(stage).values() if made is not stage]
        found = distributed.decide(all(self.store.has(self.digest(made, seed)) for made in before), 'began')
        if not found:
            self._made_on = here
        return found

    def run(self, stage: Stage, seed: int) -> Artifact:
        """The artifact of a stage, from the store or made now: by all processes together, and kept by one."""
        digest = self.digest(stage, seed)
        if not distributed.decide(self.store.has(digest), 'store'):
            self._make(stage, seed, digest)
            distributed.barrier('stored', seconds=LONGEST_STAGE)
        return self.store.get(digest)

    def _make(self, stage: Stage, seed: int, digest: str) -> None:
        if isinstance(stage, Train):
            self.say(f'training {stage.name}, seed {seed}: {stage.steps} steps')
            _, arrays, info = self.train(stage, seed)
        else:
            assert isinstance(stage, Compute), f'no way to run a {type(stage).__name__}'
            self.say(f'computing {stage.name}')
            inputs = {n: o.of(self.run(o.stage, seed).arrays) for n, o in stage.inputs.items()}
            if not distributed.is_writer():
                return
            arrays, info = self._compute(stage, seed, inputs)
        if distributed.is_writer():
            self.store.put(digest, arrays, info)

    def digest(self, stage: Stage, seed: int) -> str:
        """What the artifact is made from: code, config, data, inputs, seed and versions."""
        data = getattr(stage, 'data', None)
        own: dict[str, Any] = {
            'kind': type(stage).__name__,
            'name': stage.name,
            'code': [identity.code(stage.module), '' if stage.shared else identity.code(self.module)],
            'loop': identity.code('kdjax.run.stages'),
            'config': dict(stage.config),
            'data': getattr(data, 'identity', None),
            'inputs': {n: [self.digest(o.stage, seed), o.path] for n, o in stage.inputs.items()},
            'seed': self._seed(stage, seed),
            'versions': identity.versions(),
            'device': self._made_on['device'],
        }
        if isinstance(stage, Train):
            own |= {'steps': stage.steps, 'batch': stage.batch}
            own |= {name: self._made_on[name] for name in ('layout', 'execution')}
            if stage.reference is not None:
                own['reference'] = [self.digest(stage.reference.stage, seed), stage.reference.path]
            if stage.facts:
                own['facts'] = {n: [self.digest(o.stage, seed), o.path] for n, o in stage.facts.items()}
        return identity.digest(own)

    def frozen(self, stage: Train, seed: int) -> dict[str, Any]:
        """The inputs of a stage, on the devices."""
        return self.program(stage).place({n: o.of(self.run(o.stage, seed).arrays) for n, o in stage.inputs.items()})

    def program(self, stage: Train) -> Program:
        """The compiled program of a stage: one for all seeds."""
        if id(stage.algorithm) not in self._programs:
            algorithm = executed(stage.algorithm, self.execution)
            self._programs[id(stage.algorithm)] = Program(algorithm, layout=self.layout)
        return self._programs[id(stage.algorithm)]

    def reference(self, stage: Train, seed: int) -> Any:
        """What the stage's metrics are compared with, by split."""
        return None if stage.reference is None else stage.reference.of(self.run(stage.reference.stage, seed).arrays)

    def cost(self, stage: Train, seed: int) -> dict[str, float]:
        """What an arm cost: its last stage, and the work of the stages that were trained for this seed on the way."""
        cost = dict(self.run(stage, seed).info['cost'])
        for (before,) in graph(stage).values():
            if isinstance(before, Train) and before is not stage and not before.shared:
                spent = self.run(before, seed).info['cost']
                cost |= {name: cost[name] + spent[name] for name in ADDS_UP if name in cost and name in spent}
        return cost

    def facts(self, stage: Train, seed: int, split: str) -> dict[str, float]:
        """What other stages found that is recorded with this one."""
        found = {n: o.of(self.run(o.stage, seed).arrays) for n, o in stage.facts.items()}
        return {n: float(v[split] if isinstance(v, dict) else v) for n, v in found.items()}

    def _seed(self, stage: Stage, seed: int) -> int:
        """Arms of one seed share it, for the same data order and first weights; other stages draw their own."""
        if stage.name.startswith(ARM):
            return seed
        return (zlib.crc32(stage.name.encode()) + (self.base_seed if stage.shared else seed)) % 2**31

    def train(
        self,
        stage: Train,
        seed: int,
        *,
        events: Events = EVENTS,
        resume: Callable[[State], State | None] = lambda _: None,
    ) -> tuple[State, dict[str, Any], dict[str, Any]]:
        """Train a stage here and now: its final state, arrays and facts.

        resume: gets the fresh state and returns the one to go on from, or None. The curves then begin where it
        resumes, unless it loads `events.course`.
        """
        program, frozen = self.program(stage), self.frozen(stage, seed)
        reference = self.reference(stage, seed)
        own = self._seed(stage, seed)
        course = events.course or Course()
        curves = course.curves

        def measure(split: str, said: dict[str, np.ndarray]) -> dict[str, float]:
            return stage.measure(said, said['label'], None if reference is None else reference[split])

        def follow(step: int, state: State) -> None:
            said = predict(program, state, frozen, stage.data[CURVE_SPLIT], seed=own)
            curves['step'].append(step)
            for name, value in measure(CURVE_SPLIT, said).items():
                curves.setdefault(name, []).append(value)
            if events.on_evaluate is not None:
                events.on_evaluate(step, state)

        fitted = fit(
            program,
            stage.data['train'],
            batch=stage.batch,
            steps=stage.steps,
            seed=own,
            frozen=frozen,
            events=dataclasses.replace(
                events, evaluate_every=stage.evaluate_every, on_evaluate=follow, course=course
            ),
            resume=resume,
        )
        said = {split: predict(program, fitted.state, frozen, stage.data[split], seed=own) for split in HELD_OUT}
        state = self.layout.host(fitted.state)
        info = {
            'metrics': {n: measure(n, s) | self.facts(stage, seed, n) for n, s in said.items()},
            'curves': curves,
            'cost': stage.cost() | {'seconds': fitted.seconds, 'peak_memory_bytes': program.peak_memory_bytes},
            'state_sha256': identity.state_digest(state),
        }
        return fitted.state, {'variables': state['variables'], 'predictions': said}, info

    def _compute(self, stage: Compute, seed: int, inputs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        key = stream(jax.random.key(self._seed(stage, seed)), stage.name)
        made = stage.call(jax.device_put(inputs, jax.local_devices()[0]), key=key)
        arrays, info = made if isinstance(made, tuple) else (made, {})
        return jax.device_get(arrays), info
