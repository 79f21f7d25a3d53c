"""A student that learns from its own texts, old ones among them, on meshes of eight devices: prints one JSON object.

For each mesh: tokens, how many of the texts kept in memory differ from those of one device; weights, the largest
difference of a weight.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys

os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import numpy as np
from kinds import KINDS
from tiny import dataset

from kdjax.run.fit import Events, fit
from kdjax.run.layout import Layout, MeshShape
from kdjax.run.program import Program

ONE = Layout(MeshShape(1).mesh(jax.devices()[:1]))
MESHES = {'data': MeshShape(8), 'both': MeshShape(4, 2)}


def trained(layout: Layout):
    program = Program(KINDS['rollouts'][0](), chunk=6, layout=layout)
    return jax.device_get(fit(program, dataset()['train'], batch=8, steps=6, seed=1, frozen={}, events=Events()).state)


def difference(one, other) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def main() -> None:
    one, said = trained(ONE), {}
    for name, shape in MESHES.items():
        other = trained(Layout(shape.mesh()))
        labels = [state['memory']['rollout']['rows']['label'] for state in (one, other)]
        said[name] = {
            'written': int(one['memory']['rollout']['filled']),
            'tokens': int(np.sum(labels[0] != labels[1])),
            'weights': difference(one['variables'], other['variables']),
        }
    print(json.dumps(said))


main()
