"""Asked of eight devices in a process of their own: `python eight.py fast|slow` prints one JSON object.

What one device says is computed in the same process, on a mesh of one.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import numpy as np
import optax

from kdjax import losses, teachers
from kdjax.algorithms import Player, play, supervised
from kdjax.algorithms.algorithm import Algorithm
from kdjax.data.augment import augment
from kdjax.data.dataset import ArraySource
from kdjax.models.heads import linear_like
from kdjax.models.model import Outputs
from kdjax.models.named import named
from kdjax.objectives import hard_labels, hint, kl, term
from kdjax.run.checkpoints import Checkpoints
from kdjax.run.fit import Events, fit
from kdjax.run.layout import Layout, MeshShape
from kdjax.run.program import Program
from kdjax.streams import stream
from kdjax.teachers.teacher import Teacher

BATCH, STEPS, SEED = 16, 4, 3
OPTIMIZER = optax.sgd(0.05, momentum=0.9)
ONE = Layout(MeshShape(1).mesh(jax.devices()[:1]))


class OnDisk:
    """The same examples, read batch by batch; counts the rows that were read."""

    arrays = None

    def __init__(self, source: ArraySource):
        self._source, self.read = source, 0

    def __len__(self) -> int:
        return len(self._source)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        self.read += np.asarray(indices).size
        return self._source.take(indices)


def source() -> ArraySource:
    rng = np.random.default_rng(0)
    label = (np.arange(96) % 8).astype(np.int32)
    image = np.clip(rng.uniform(0, 1, (8, 8, 8, 3))[label] + 0.3 * rng.standard_normal((96, 8, 8, 3)), 0, 1)
    return ArraySource({'image': image.astype(np.float32), 'label': label})


def model(spec: str, norm: str = 'none'):
    return named(spec, norm=norm, classes=8, image_shape=(8, 8, 3))


def cropped(batch: Any, *, key: jax.Array, train: bool) -> dict[str, Any]:
    """Augmentation draws: the same on any mesh, or the losses differ at once."""
    moved = augment(batch['image'], key=stream(key, 'augment'), flip=True, padding=1) if train else batch['image']
    return {**batch, 'image': moved}


def noisy(batch: Any, *, key: jax.Array, train: bool) -> dict[str, Any]:
    """Every draw that a step may make: augmentation, and noise for each pixel."""
    noise = jax.random.normal(stream(key, 'noise'), batch['image'].shape)
    return {**cropped(batch, key=key, train=train), 'noise': noise}


def _noted(frozen: Any, example: Any, variables: Any) -> dict[str, Any]:
    return {name: jax.numpy.zeros_like(example[name]) for name in ('image', 'noise', 'index')}


def _note(memory: Any, view: Any, variables: Any) -> dict[str, Any]:
    return {name: view[f'batch.{name}'] for name in memory}


def kinds() -> dict[str, Callable[[], Algorithm]]:
    live = {'teacher': teachers.live(model('vit-16-1'))}
    ema = {'teacher': teachers.ema(model('mlp-32-16-32'), decay=0.9)}
    past = {'teacher': teachers.past_self(examples=96, classes=8)}

    def student(spec: str, extra: Any, taught: Any, norm: str = 'none') -> Callable[[], Algorithm]:
        return lambda: supervised(model(spec, norm), hard_labels() + extra, OPTIMIZER, teachers=taught, prepare=cropped)

    drawn = {'teacher': Teacher(lambda memory, frozen, view, *, key: Outputs(view['batch.noise']), _noted, _note)}
    return {
        'draws': lambda: supervised(model('mlp-16'), hard_labels(), OPTIMIZER, teachers=drawn, prepare=noisy),
        'vit': student('vit-16-2', kl(temperature=2.0), live),
        'mlp': student('mlp-32-16-32', kl(), live),
        'normalised': student('mlp-32-16-32', kl(), live, 'batch'),
        'resnet': student('resnet8', kl(), live, 'batch'),
        'projector': student('mlp-16', hint('student.pooled', 'teacher.pooled', projector=linear_like), live),
        'relational': student('mlp-32', term(losses.rkd_distance, 'student', 'teacher'), live),
        'average': student('mlp-32-16-32', kl(), ema),
        'past self': student('mlp-32', kl(), past),
        'mutual': lambda: play(
            {
                'student': Player(model('mlp-32'), hard_labels() + kl('student', 'peer'), OPTIMIZER),
                'peer': Player(model('vit-16-1'), hard_labels('peer') + kl('peer', 'student'), OPTIMIZER),
            }
        ),
    }


def frozen(kind: str) -> dict[str, Any]:
    if kind in ('draws', 'average', 'past self', 'mutual'):
        return {}
    return {'teacher': model('vit-16-1').init(jax.random.key(9), np.zeros((1, 8, 8, 3), np.float32))}


@functools.cache
def program(kind: str, layout: Layout) -> tuple[Program, Any]:
    """Compiled once for all that is asked of it, and its frozen arrays."""
    made = Program(kinds()[kind](), chunk=4, layout=layout)
    return made, made.place(frozen(kind))


def trained(
    kind: str, layout: Layout, *, steps: int = STEPS, seed: int = SEED, data: Any = None, resume: Any = lambda _: None
):
    """(state, losses, frozen arrays) after some steps of a kind on a layout."""
    made, held = program(kind, layout)
    rows: list[float] = []
    events = Events(log_every=1, on_log=lambda step, row: rows.append(row['student/loss']))
    fitted = fit(made, data or source(), batch=BATCH, steps=steps, seed=seed, frozen=held, events=events, resume=resume)
    return fitted.state, rows, held


def split(tree: Any) -> float:
    """The largest share of these arrays that one device holds."""
    leaves = jax.tree.leaves(tree)
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
    return held / sum(leaf.nbytes for leaf in leaves) if leaves else 1.0


def apart(a: Any, b: Any) -> float:
    """The largest difference of two trees, by the largest value of each leaf."""

    def leaf(x: Any, y: Any) -> float:
        x, y = np.asarray(jax.device_get(x), np.float64), np.asarray(jax.device_get(y), np.float64)
        return float(np.max(np.abs(x - y), initial=0) / max(np.max(np.abs(y), initial=0), 1e-3))

    return max(jax.tree.leaves(jax.tree.map(leaf, a, b)))


def far(a: Any, b: Any) -> float:
    """The norm of the difference of two trees, by the norm of the second."""
    x, y = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(tree))]) for tree in (a, b))
    return float(np.linalg.norm(x - y) / np.linalg.norm(y))


def kinks(kind: str, layout: Layout) -> list[float]:
    """Differences after one step, for several seeds, the smallest first."""
    states = ([trained(kind, on, steps=1, seed=seed)[0]['variables'] for on in (layout, ONE)] for seed in range(5))
    return sorted(apart(*pair) for pair in states)


def compared(kind: str, shape: MeshShape, student: str, teacher: str, data: Any = None) -> dict[str, Any]:
    alone, rows, _ = trained(kind, ONE)
    layout = Layout(shape.mesh(), student=student, teacher=teacher)
    state, said, held = trained(kind, layout, data=data)
    return {
        'weights': apart(state['variables'], alone['variables']),
        'losses': apart(np.asarray(said), np.asarray(rows)),
        'norm': far(state['variables'], alone['variables']),
        'one_step': kinks(kind, layout) if kind == 'resnet' else [],
        'first_loss': apart(np.asarray(said[:1]), np.asarray(rows[:1])),
        'share': split(state['variables']),
        'teacher_share': split(held),
        'memory_share': split(state['memory']),
    }


FAST = [
    ('vit', MeshShape(1, 8), 'both', 'replicated'),
    ('vit', MeshShape(2, 2, 2), 'both', 'fsdp'),
    ('normalised', MeshShape(2, 2, 2), 'fsdp', 'tensor'),
    ('average', MeshShape(2, 2, 2), 'both', 'both'),
]


def slow() -> Iterator[tuple[str, MeshShape, str, str]]:
    for shape in (MeshShape(8), MeshShape(1, 8), MeshShape(1, 4, 2), MeshShape(4, 1, 2), MeshShape(2, 2, 2)):
        yield from ((kind, shape, 'both', 'both') for kind in kinds())
    for student in ('replicated', 'fsdp', 'tensor'):
        for teacher in ('replicated', 'fsdp', 'tensor'):
            yield 'vit', MeshShape(2, 2, 2), student, teacher


def moved(before: Layout, after: Layout, whole: list[float]) -> tuple[bool, float]:
    """Saved on one layout, restored on another: (the arrays are bit for bit the same, how far later losses are off)."""
    saved = trained('vit', before)[0]
    kept, same = jax.device_get(saved), []

    def restored(fresh: Any) -> Any:
        step, state = checkpoints.restore(None, fresh)
        pairs = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), b), jax.device_get(state), kept)
        same.append(step == STEPS and all(jax.tree.leaves(pairs)))
        return state

    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(pathlib.Path(folder))
        checkpoints.save(STEPS, saved)
        rows = trained('vit', after, steps=len(whole), resume=restored)[1]
        checkpoints.close()
    return same == [True], apart(np.asarray(rows), np.asarray(whole[STEPS:]))


def topologies(which: str) -> dict[str, tuple[bool, float]]:
    """From some number of devices to another, and back."""
    whole = trained('vit', ONE, steps=STEPS + 20)[1]
    layouts = {n: Layout(MeshShape(1, n).mesh(jax.devices()[:n]), teacher='replicated') for n in (2, 4, 8)} | {1: ONE}
    pairs = ((1, 8), (8, 1)) if which == 'fast' else ((1, 2), (2, 1), (1, 4), (4, 8), (8, 4), (4, 1), (8, 2))
    return {f'{a} to {b}': moved(layouts[a], layouts[b], whole) for a, b in pairs}


def draws() -> bool:
    """Whether what is drawn in a step on a split mesh is bit for bit what one device draws."""
    one, other = (trained('draws', on)[0]['memory'] for on in (ONE, Layout(MeshShape(2, 2, 2).mesh())))
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: np.array_equal(jax.device_get(a), b), one, other)))


def main(which: str) -> None:
    asked = FAST if which == 'fast' else list(slow())
    said: dict[str, Any] = {
        'meshes': {f'{k} {m.data} {m.fsdp} {m.tensor} {s} {t}': compared(k, m, s, t) for k, m, s, t in asked}
    }
    disk = OnDisk(source())
    said['disk'] = compared('vit', MeshShape(2, 4), 'both', 'both', data=disk)
    said['draws'] = draws()
    said['topologies'] = topologies(which)
    print(json.dumps(said))


if __name__ == '__main__':
    main(sys.argv[1])
