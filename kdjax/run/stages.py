"""Executing stages: each once per content, through the store."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from kdjax.algorithms.algorithm import PLAIN, Execution, State, executed
from kdjax.experiment import ARM
from kdjax.run import identity
from kdjax.run.fit import Events
from kdjax.run.group import distributed
from kdjax.run.layout import Layout, single
from kdjax.run.program import Program
from kdjax.run.store import Store
from kdjax.run.together import Together, places
from kdjax.run.training import Made, Training
from kdjax.stage import Artifact, Compute, Stage, Train, graph
from kdjax.streams import stream

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
    at_once: how many seeds of a stage are trained as one program. events: what happens between steps of every stage.
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
        at_once: int = 1,
        events: Events = EVENTS,
    ):
        self.store, self.module, self.base_seed, self.say = store, module, base_seed, say
        self.layout, self.execution, self.events = layout or single(), execution, events
        self.places = places(at_once, self.layout) if at_once > 1 else 1
        self._made_on = machine(self.layout, execution)
        self._programs: dict[tuple[int, bool], Program] = {}

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
        return self.run_all(stage, [seed])[0]

    def run_all(self, stage: Stage, seeds: Sequence[int]) -> list[Artifact]:
        """The artifacts of several seeds. Those not in the store are made, as many together as there are places."""
        digests = [self.digest(stage, seed) for seed in seeds]
        missing: dict[str, int] = {}
        for digest, seed in zip(digests, seeds, strict=True):
            if digest not in missing and not distributed.decide(self.store.has(digest), 'store'):
                missing[digest] = seed
        for group in self._groups(stage, list(missing.values())):
            self._make(stage, group)
            distributed.barrier('stored', seconds=LONGEST_STAGE)
        return [self.store.get(digest) for digest in digests]

    def _groups(self, stage: Stage, seeds: list[int]) -> list[list[int]]:
        """Seeds that are made at once; of what they read, all is then there."""
        if self.places == 1:
            return [[seed] for seed in seeds]
        for output in stage.reads if seeds else ():
            self.run_all(output.stage, seeds)
        size = self.places if self._spread(stage) else 1
        return [seeds[first : first + size] for first in range(0, len(seeds), size)]

    def _spread(self, stage: Stage) -> bool:
        """Whether the seeds of a stage are trained together."""
        return self.places > 1 and isinstance(stage, Train) and not stage.shared

    def _make(self, stage: Stage, seeds: Sequence[int]) -> None:
        if isinstance(stage, Train):
            self.say(f'training {stage.name}, {said_seeds(seeds)}: {stage.steps} steps')
            made = self._train(stage, seeds, self.events)[1]
        else:
            assert isinstance(stage, Compute), f'no way to run a {type(stage).__name__}'
            self.say(f'computing {stage.name}')
            (seed,) = seeds
            inputs = {n: o.of(self.run(o.stage, seed).arrays) for n, o in stage.inputs.items()}
            made = [self._compute(stage, seed, inputs)] if distributed.is_writer() else []
        if distributed.is_writer():
            for seed, (arrays, info) in zip(seeds, made, strict=True):
                self.store.put(self.digest(stage, seed), arrays, info)

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
            if self._spread(stage):
                own['seeds_at_once'] = self.places
            if stage.reference is not None:
                own['reference'] = [self.digest(stage.reference.stage, seed), stage.reference.path]
            if stage.facts:
                own['facts'] = {n: [self.digest(o.stage, seed), o.path] for n, o in stage.facts.items()}
        return identity.digest(own)

    def frozen(self, stage: Train, seeds: Sequence[int]) -> dict[str, Any]:
        """The inputs of a stage, on the devices; what each seed has of its own, with the seeds in front."""
        read = {n: [o.of(self.run(o.stage, seed).arrays) for seed in seeds] for n, o in stage.inputs.items()}
        own = _per_seed(stage) if self._spread(stage) else ()
        stacked = {n: jax.tree.map(lambda *x: np.stack(x), *v) if n in own else v[0] for n, v in read.items()}
        return self.program(stage).place(stacked)

    def program(self, stage: Train) -> Program:
        """The compiled program of a stage: one for all seeds."""
        name = id(stage.algorithm), self._spread(stage)
        if name not in self._programs:
            algorithm = executed(stage.algorithm, self.execution)
            self._programs[name] = (
                Together(algorithm, self.places, layout=self.layout, per_seed=_per_seed(stage))
                if self._spread(stage)
                else Program(algorithm, layout=self.layout)
            )
        return self._programs[name]

    def reference(self, stage: Train, seed: int) -> Any:
        """What the stage's metrics are compared with, by split."""
        return None if stage.reference is None else stage.reference.of(self.run(stage.reference.stage, seed).arrays)

    def cost(self, stage: Train | Compute, seed: int) -> dict[str, float]:
        """What an arm cost: its last stage, and the work of the stages that were trained for this seed on the way."""
        own = self.run(stage, seed).info['cost'] if isinstance(stage, Train) else dict.fromkeys(ADDS_UP, 0.0)
        cost = dict(own)
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
        state, ((arrays, info),) = self._train(stage, [seed], events, resume)
        return state, arrays, info

    def _train(
        self,
        stage: Train,
        seeds: Sequence[int],
        events: Events,
        resume: Callable[[State], State | None] = lambda _: None,
    ) -> tuple[State, list[Made]]:
        """The final state, and what each seed made. Places that are left train the last seed once more."""
        several = self._spread(stage)
        held = [*seeds, *[seeds[-1]] * (self.places - len(seeds))] if several else seeds
        drawn = tuple(self._seed(stage, seed) for seed in held)
        training = Training(
            stage, self.program(stage), self.frozen(stage, held), seeds, drawn if several else drawn[0],
            [self.reference(stage, seed) for seed in seeds],
        )  # fmt: skip
        state, made = training.run(events, resume)
        for seed, (_, info) in zip(seeds, made, strict=True):
            for split, metrics in info['metrics'].items():
                metrics |= self.facts(stage, seed, split)
        return state, made

    def _compute(self, stage: Compute, seed: int, inputs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        key = stream(jax.random.key(self._seed(stage, seed)), stage.name)
        made = stage.call(jax.device_put(inputs, jax.local_devices()[0]), key=key)
        arrays, info = made if isinstance(made, tuple) else (made, {})
        return jax.device_get(arrays), info


def _per_seed(stage: Train) -> list[str]:
    """The inputs that are not the same for all seeds."""
    return [
        name
        for name, output in stage.inputs.items()
        if not all(before.shared for found in graph(output.stage).values() for before in found)
    ]


def said_seeds(seeds: Sequence[int]) -> str:
    """For people: 'seed 3', or 'seeds 3, 4'."""
    return f'seed{"s" if len(seeds) > 1 else ""} {", ".join(map(str, seeds))}'
