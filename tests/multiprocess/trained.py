"""What a process of a group says of some trainings: `trained.main([[MESH, SOURCE], ...])`."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax import teachers
from kdjax.algorithms import supervised
from kdjax.data.dataset import ArraySource
from kdjax.models.named import named
from kdjax.objectives import hard_labels, kl
from kdjax.run.fit import Events, fit
from kdjax.run.group import distributed
from kdjax.run.layout import Layout, read_mesh
from kdjax.run.program import Program

BATCH, STEPS, SEED, EXAMPLES = 16, 10, 3, 40
SHAPE = {'classes': 8, 'image_shape': (4, 4, 1)}


@dataclasses.dataclass(eq=False)
class OnDisk:
    """A split that is not in memory, and notes what is read of it."""

    inside: ArraySource
    read: list[list[int]] = dataclasses.field(default_factory=list)

    arrays = None

    def __len__(self) -> int:
        return len(self.inside)

    def take(self, indices):
        self.read.append(np.asarray(indices).tolist())
        return self.inside.take(indices)


def in_memory() -> ArraySource:
    rng = np.random.default_rng(0)
    label = (np.arange(EXAMPLES) % 8).astype(np.int32)
    image = np.clip(rng.uniform(0, 1, (8, 4, 4, 1))[label] + 0.3 * rng.standard_normal((EXAMPLES, 4, 4, 1)), 0, 1)
    return ArraySource({'image': image.astype(np.float32), 'label': label})


def algorithm():
    """Distillation; the metric `order` tells the examples of a batch, and in which order they came."""
    taught = {'teacher': teachers.live(named('mlp-16', **SHAPE))}
    made = supervised(named('mlp-32-16', **SHAPE), hard_labels() + kl(temperature=2.0), optax.sgd(0.1), teachers=taught)

    def step(state, frozen, batch, key):
        state, metrics = made.step(state, frozen, batch, key)
        places = jnp.arange(1, len(batch['index']) + 1, dtype=jnp.float32)
        return state, metrics | {'order': jnp.sum(places * batch['index'].astype(jnp.float32))}

    return dataclasses.replace(made, step=step)


def train(layout: Layout, source: Any, steps: int = STEPS) -> dict[str, Any]:
    """Losses (their bits) and orders by step, and what was read of the source for them."""
    program = Program(algorithm(), chunk=4, layout=layout)
    weights = named('mlp-16', **SHAPE).init(jax.random.key(1), in_memory()['image'][:BATCH])
    rows: list[dict[str, float]] = []
    events = Events(log_every=1, on_log=lambda step, row: rows.append(row))
    fit(program, source, batch=BATCH, steps=steps, seed=SEED, frozen=program.place({'teacher': weights}), events=events)
    return {
        'losses': [row['student/loss'].hex() for row in rows],
        'orders': [row['order'] for row in rows],
        'read': getattr(source, 'read', [])[1:],  # the first was an example of shapes
    }


def main(cases: list[list[str]], steps: int = STEPS) -> None:
    """Train each case on all devices of the group; the last line printed is a JSON list of what came of them."""

    def run() -> int:
        said = []
        for mesh, kind in cases:
            source = in_memory() if kind == 'memory' else OnDisk(in_memory())
            said.append(train(Layout(read_mesh(mesh).mesh()), source, steps))
        print(json.dumps(said))
        return 0

    sys.exit(distributed.run(run))
