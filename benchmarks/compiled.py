"""What compiled steps send between devices, and hold: `python compiled.py [--tpu SLICE] CASE...` prints a JSON object.

Nothing is run, and no array is made: the devices are as many as `JAX_NUM_CPU_DEVICES` says, or those of a slice of TPUs
that need not be here, such as `v5e:2x4`, for which libtpu compiles.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.experimental import topologies

from kdjax import teachers
from kdjax.algorithms import supervised
from kdjax.algorithms.algorithm import Execution, executed
from kdjax.models.named import named
from kdjax.objectives import hard_labels, kl
from kdjax.run.collectives import Collective, collectives, total_bytes
from kdjax.run.layout import Layout, MeshShape
from kdjax.run.program import Program, compiler_options

CLASSES, IMAGE, DEPTH = 4096, (8, 8, 3), 2
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')


class Ungathered(Layout):
    """Leaves it to XLA what is moved."""

    def gathered(self, tree: Any, shardings: Any) -> Any:
        return tree


@dataclasses.dataclass(frozen=True)
class Case:
    """A step of so many examples, whose weights dominate: fewer examples than any layer is wide."""

    student: str
    mesh: MeshShape
    batch: int = 32
    teacher: str = 'mlp-64'
    placed: str = 'both'
    accumulate: int = 1
    remat: bool = False
    layout: type[Layout] = Layout


CASES = {
    'vit fsdp': Case('vit-64-1', MeshShape(1, 8)),
    'mlp data': Case('mlp-256-256', MeshShape(8)),
    'mlp data and fsdp': Case('mlp-256-256', MeshShape(2, 4)),
    'mlp whole teacher': Case('mlp-256-256', MeshShape(1, 8), placed='replicated'),
    'mlp in parts': Case('mlp-256-256', MeshShape(1, 8), accumulate=2),
    'mlp ungathered': Case('mlp-256-256', MeshShape(1, 8), layout=Ungathered),
    'vit tensor': Case(f'vit-64-{DEPTH}', MeshShape(2, 2, 2)),
    'deep': Case('vit-64-6', MeshShape(1), batch=1024),
    'deep, again': Case('vit-64-6', MeshShape(1), batch=1024, remat=True),
    'large fsdp': Case('vit-256-2', MeshShape(1, 256), batch=512, teacher='mlp-256'),
    'large data and fsdp': Case('vit-256-2', MeshShape(4, 64), batch=512, teacher='mlp-256'),
    'large all': Case('vit-256-2', MeshShape(8, 8, 4), batch=512, teacher='mlp-256'),
}


def model(spec: str):
    return named(spec, classes=CLASSES, image_shape=IMAGE, **({'norm': 'none'} if spec.startswith('mlp') else {}))


def shaped(tree: Any, shardings: Any) -> Any:
    return jax.tree.map(lambda s, on: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=on), tree, shardings)


def everywhere(layout: Layout, tree: Any) -> Any:
    return shaped(tree, jax.tree.map(lambda _: layout.replicated, tree))


def compiled(case: Case, devices: Sequence[Any]) -> tuple[Any, Any, Any]:
    """(the compiled steps, the abstract weights of the student, those of the teacher), on the first of the devices."""
    teacher = model(case.teacher)
    algorithm = supervised(
        model(case.student), hard_labels() + kl(temperature=2.0), optax.adam(1e-3),
        teachers={'teacher': teachers.live(teacher)},
    )  # fmt: skip
    mesh = case.mesh.mesh(devices[: math.prod(dataclasses.astuple(case.mesh))])
    layout = case.layout(mesh, teacher=case.placed)
    program = Program(executed(algorithm, Execution(case.accumulate, case.remat)), chunk=2, layout=layout)
    image = jax.ShapeDtypeStruct((case.batch, *IMAGE), np.float32)
    index = jax.ShapeDtypeStruct((case.batch,), np.int32)
    batch = {'image': image, 'label': index, 'index': index}
    frozen = {'teacher': jax.eval_shape(teacher.init, jax.random.key(0), image)}
    frozen = shaped(frozen, layout.of_frozen(frozen, program.algorithm.frozen_rules))
    state = program.abstract(frozen, batch)
    rows = jax.ShapeDtypeStruct((2, case.batch), np.int32)
    rest = everywhere(layout, (batch, rows, jax.eval_shape(lambda: jax.random.key(0))))
    lowered = program.lower(state, frozen, rest[0], rest[1], np.int32(2), rest[2])
    options = compiler_options() if devices[0].platform == 'cpu' else {}
    return lowered.compile(options), state['variables'], frozen


def weights(tree: Any) -> dict[str, int]:
    """Bytes of weights: of all, and of those that `fsdp` splits."""
    sizes = [(leaf.size * leaf.dtype.itemsize, 'fsdp' in leaf.sharding.spec) for leaf in jax.tree.leaves(tree)]
    return {'all': sum(size for size, _ in sizes), 'split': sum(size for size, is_split in sizes if is_split)}


def strays(found: list[Collective], weights: Any) -> int:
    """Elements of the largest collective, arrays with the shape of a weight left out."""

    def form(shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(sorted(size for size in shape if size > 1))

    known = {form(leaf.shape) for leaf in jax.tree.leaves(weights)}
    return max(sum(math.prod(a.shape) for a in one.arrays if form(a.shape) not in known) for one in found)


def said(case: Case, devices: Sequence[Any]) -> dict[str, Any]:
    """logits: elements of those that belong to the examples of one device."""
    steps, student, teacher = compiled(case, devices)
    found = collectives(steps.as_text())
    mine = case.batch // (case.mesh.fsdp * (case.mesh.data or 1))
    return {
        'collectives': [[one.kind, array.shape] for one in found for array in one.arrays],
        'gathered': total_bytes(found, 'all-gather'),
        'reduced': total_bytes(found, 'all-reduce', 'reduce-scatter'),
        'moved': total_bytes(found, 'all-to-all', 'collective-permute'),
        'stray': strays(found, (student, teacher)) if found else 0,
        'temporary': steps.memory_analysis().temp_size_in_bytes,
        'student': weights(student), 'teacher': weights(teacher),
        'classes': CLASSES, 'depth': DEPTH, 'examples': mine, 'logits': mine * CLASSES,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--tpu')
    parser.add_argument('cases', nargs='+')
    given = parser.parse_args()
    devices = topologies.get_topology_desc(given.tpu, 'tpu').devices if given.tpu else jax.devices()
    print(json.dumps({name: said(CASES[name], devices) for name in given.cases}))


if __name__ == '__main__':
    main()
