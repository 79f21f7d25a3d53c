"""What the compiled steps of a run send between devices: `python compiled.py CASE...` prints one JSON object.

Nothing is run, and no array is made: the devices are as many as `JAX_NUM_CPU_DEVICES` says.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import jax
import numpy as np
import optax

from kdjax import teachers
from kdjax.algorithms import supervised
from kdjax.algorithms.algorithm import Execution, executed
from kdjax.models.named import named
from kdjax.objectives import hard_labels, kl
from kdjax.run.collectives import collectives
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
    layout: type[Layout] = Layout


CASES = {
    'vit fsdp': Case('vit-64-1', MeshShape(1, 8)),
    'mlp data': Case('mlp-256-256', MeshShape(8)),
    'mlp data and fsdp': Case('mlp-256-256', MeshShape(2, 4)),
    'mlp whole teacher': Case('mlp-256-256', MeshShape(1, 8), placed='replicated'),
    'mlp in parts': Case('mlp-256-256', MeshShape(1, 8), accumulate=2),
    'mlp ungathered': Case('mlp-256-256', MeshShape(1, 8), layout=Ungathered),
    'vit tensor': Case(f'vit-64-{DEPTH}', MeshShape(2, 2, 2)),
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


def compiled(case: Case) -> tuple[str, Any, Any]:
    """(HLO, the abstract weights of the student, those of the teacher)."""
    teacher = model(case.teacher)
    algorithm = supervised(
        model(case.student), hard_labels() + kl(temperature=2.0), optax.adam(1e-3),
        teachers={'teacher': teachers.live(teacher)},
    )  # fmt: skip
    layout = case.layout(case.mesh.mesh(), teacher=case.placed)
    program = Program(executed(algorithm, Execution(accumulate=case.accumulate)), chunk=2, layout=layout)
    image = jax.ShapeDtypeStruct((case.batch, *IMAGE), np.float32)
    index = jax.ShapeDtypeStruct((case.batch,), np.int32)
    batch = {'image': image, 'label': index, 'index': index}
    frozen = {'teacher': jax.eval_shape(teacher.init, jax.random.key(0), image)}
    frozen = shaped(frozen, layout.of_frozen(frozen, program.algorithm.frozen_rules))
    state = program.abstract(frozen, batch)
    rows = jax.ShapeDtypeStruct((2, case.batch), np.int32)
    rest = everywhere(layout, (batch, rows, jax.eval_shape(lambda: jax.random.key(0))))
    lowered = program.lower(state, frozen, rest[0], rest[1], np.int32(2), rest[2])
    return lowered.compile(compiler_options()).as_text(), state['variables'], frozen


def weights(tree: Any) -> list[tuple[list[int], bool]]:
    """The shape of every array, and whether `fsdp` splits it."""
    return [(list(leaf.shape), 'fsdp' in leaf.sharding.spec) for leaf in jax.tree.leaves(tree)]


def said(case: Case) -> dict[str, Any]:
    text, student, teacher = compiled(case)
    found = [dataclasses.asdict(one) | {'bytes': one.bytes} for one in collectives(text)]
    return {
        'collectives': found, 'student': weights(student), 'teacher': weights(teacher),
        'classes': CLASSES, 'batch': case.batch, 'depth': DEPTH, 'shards': case.mesh.fsdp * (case.mesh.data or 1),
    }  # fmt: skip


if __name__ == '__main__':
    print(json.dumps({name: said(CASES[name]) for name in sys.argv[1:]}))
