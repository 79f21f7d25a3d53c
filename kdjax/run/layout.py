"""Where the arrays of a run live: one mesh, and rules that say how each array is split over it.

Step code is written for one device. XLA reads the layout of its arguments and puts in the communication: batches
are split over `data` and `fsdp` together, weights over `fsdp` and `tensor`, and what no rule names is whole on every
device.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from kdjax.errors import UserError, unknown
from kdjax.models.model import Rules

AXES = DATA, FSDP, TENSOR = 'data', 'fsdp', 'tensor'
BATCH = PartitionSpec((DATA, FSDP))
PLACEMENTS: Mapping[str, tuple[str, ...]] = {
    'replicated': (), 'fsdp': (FSDP,), 'tensor': (TENSOR,), 'both': (FSDP, TENSOR)
}  # fmt: skip
"""The axes over which the weights of somebody may be split."""

WEIGHTS = re.compile(r'(^|/)params(/|$)|^optimizer/')
"""Paths of what `fsdp` splits without a rule: weights and their moments, not tables of examples."""

COMPUTED = re.compile(r'^(?!optimizer/)(.*/)?params(/|$)')
"""Paths of the weights that a forward pass reads."""


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """How many devices along each axis. `data=None`: all that are left."""

    data: int | None = None
    fsdp: int = 1
    tensor: int = 1

    def mesh(self, devices: Sequence[Any] | None = None) -> Mesh:
        """The mesh of these devices; all there are unless given. Raises `UserError` where they do not divide."""
        devices = jax.devices() if devices is None else devices
        inner = self.fsdp * self.tensor
        data = len(devices) // inner if self.data is None else self.data
        sizes = (data, self.fsdp, self.tensor)
        if min(sizes) < 1 or math.prod(sizes) != len(devices):
            said = ', '.join(f'{axis}={size}' for axis, size in zip(AXES, sizes, strict=True))
            raise UserError(
                f'mesh {said} takes {math.prod(sizes)} devices, but there are {len(devices)}: '
                f'choose sizes whose product is {len(devices)}'
            )
        return Mesh(np.asarray(devices).reshape(sizes), AXES)


def read_mesh(text: str) -> MeshShape:
    """From text: 'data=2,fsdp=4'. An axis that is not named has size 1, `data` whatever is left."""
    sizes: dict[str, int] = {}
    for part in filter(None, text.split(',')):
        axis, _, size = part.partition('=')
        if axis not in AXES:
            raise unknown('mesh axis', axis, AXES)
        if not size.isdecimal() or int(size) < 1:
            raise UserError(f"mesh axis '{part}': write it as in '{axis}=2', with a size of at least 1")
        sizes[axis] = int(size)
    return MeshShape(**sizes)


def read_rules(texts: tuple[str, ...]) -> Rules:
    """From text: 'blocks/.*/kernel=,tensor' splits the second axis of every array whose path the pattern finds."""
    rules = []
    for text in texts:
        pattern, found, axes = text.rpartition('=')
        names = tuple(axis or None for axis in axes.split(','))
        strange = next((n for n in names if n is not None and n not in AXES), None)
        if not found or not pattern:
            raise UserError(f"sharding rule '{text}': write PATTERN=AXIS,AXIS, an entry for each axis of the array")
        if strange:
            raise unknown('mesh axis', strange, AXES)
        rules.append((pattern, names))
    return tuple(rules)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh, or the plan of one, and how state and frozen arrays are split over it.

    own: rules of the user, over paths of the state; they replace those of the models.
    student, teacher: which axes may split the weights of those who learn, and of those who teach.
    """

    mesh: Mesh | AbstractMesh
    own: Rules = ()
    student: str = 'both'
    teacher: str = 'both'

    def __post_init__(self) -> None:
        for placement in (self.student, self.teacher):
            if placement not in PLACEMENTS:
                raise unknown('placement', placement, PLACEMENTS)

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def identity(self) -> dict[str, Any]:
        """What rounding may depend on, for people and digests."""
        return {'mesh': dict(self.mesh.shape), 'rules': self.own, 'student': self.student, 'teacher': self.teacher}

    @property
    def shards(self) -> int:
        """Into how many parts a batch is split."""
        return self.mesh.shape[DATA] * self.mesh.shape[FSDP]

    def batch(self, axis: int = 0) -> NamedSharding:
        """A batch, whose examples are along `axis`."""
        return NamedSharding(self.mesh, PartitionSpec(*(None,) * axis, *BATCH))

    def check_batch(self, size: int) -> None:
        """Raises `UserError` for a batch that cannot be split evenly."""
        if size % self.shards:
            shape = self.mesh.shape
            raise UserError(
                f'a batch of {size} does not divide over data={shape[DATA]} x fsdp={shape[FSDP]} devices: '
                f'choose a multiple of {self.shards}, or a smaller mesh'
            )

    def of_state(self, tree: Any, rules: Rules) -> Any:
        """A sharding for each array of a state (or its shapes)."""
        given = _Rules(self.own, 'the rules given')
        made = self._shardings(tree, given, _Rules(rules, "a model's rules"), PLACEMENTS[self.student])
        given.check_used(tree)
        return made

    def of_frozen(self, tree: Any, rules: Rules) -> Any:
        """A sharding for each frozen array."""
        nothing = _Rules((), '')
        return self._shardings(tree, nothing, _Rules(rules, "a teacher's rules"), PLACEMENTS[self.teacher])

    def gathered(self, tree: Any, shardings: Any) -> Any:
        """Inside a compiled function: weights as a step computes with them, whole along `fsdp`, split along `tensor`.

        The devices along `fsdp` have different examples. Left to itself XLA may leave the weights where they are and
        move the activations instead, logits among them, wherever those are the smaller.
        """

        def one(path: Any, leaf: Any, sharding: NamedSharding) -> Any:
            if not COMPUTED.search(_text(path)) or FSDP not in sharding.spec:
                return leaf
            whole = PartitionSpec(*(None if axis == FSDP else axis for axis in sharding.spec))
            return jax.lax.with_sharding_constraint(leaf, NamedSharding(self.mesh, whole))

        return jax.tree_util.tree_map_with_path(one, tree, shardings)

    def _shardings(self, tree: Any, own: _Rules, models: _Rules, axes: tuple[str, ...]) -> Any:
        def one(path: Any, leaf: Any) -> NamedSharding:
            name = _text(path)
            ruled = own.find(name)
            if ruled is None:
                ruled = models.find(name) or ()
                ruled = tuple(axis if axis in (DATA, *axes) and self.mesh.shape[axis] > 1 else None for axis in ruled)
                if FSDP in axes and WEIGHTS.search(name):
                    ruled = self._with_fsdp(ruled, leaf.shape)
            return NamedSharding(self.mesh, PartitionSpec(*self._checked(name, leaf.shape, ruled)))

        return jax.tree_util.tree_map_with_path(one, tree)

    def _with_fsdp(self, ruled: tuple[str | None, ...], shape: tuple[int, ...]) -> tuple[str | None, ...]:
        """Split the longest axis that divides and that nothing else splits."""
        size = self.mesh.shape[FSDP]
        full = [*ruled, *(None,) * (len(shape) - len(ruled))]
        free = [i for i, axis in enumerate(full) if axis is None and shape[i] % size == 0]
        if size > 1 and free and FSDP not in full:
            full[max(free, key=lambda i: shape[i])] = FSDP
        return tuple(full)

    def _checked(self, name: str, shape: tuple[int, ...], ruled: tuple[str | None, ...]) -> tuple[str | None, ...]:
        if len(ruled) > len(shape):
            raise UserError(f'{name} {list(shape)}: its rule {ruled} names {len(ruled)} axes, and it has {len(shape)}')
        for length, axis in zip(shape, ruled, strict=False):
            if axis is not None and length % self.mesh.shape[axis]:
                raise UserError(
                    f'{name} {list(shape)}: {length} does not divide over {axis}={self.mesh.shape[axis]}: choose '
                    f'another mesh, another width, or a rule that leaves this axis whole'
                )
        return ruled

    # From the host to the mesh, and back.

    def place(self, tree: Any, shardings: Any) -> Any:
        """Host arrays, the same in every process, as global arrays; each process hands over its own parts alone."""

        def one(leaf: Any, sharding: NamedSharding) -> jax.Array:
            if jax.process_count() == 1 or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable):
                return jax.device_put(leaf, sharding)
            if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                data = one(jax.random.key_data(leaf), sharding)
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(one, tree, _like(tree, shardings))

    def host(self, tree: Any) -> Any:
        """Global arrays as NumPy arrays, whole in every process."""
        if jax.process_count() == 1:
            return jax.device_get(tree)
        return jax.device_get(_gather(self.replicated)(tree))


@functools.cache
def _gather(sharding: NamedSharding) -> Callable[[Any], Any]:
    return jax.jit(lambda tree: tree, out_shardings=sharding)


def _like(tree: Any, shardings: Any) -> Any:
    """One sharding for each leaf."""
    return jax.tree.map(lambda _: shardings, tree) if isinstance(shardings, NamedSharding) else shardings


def single() -> Layout:
    """Everything on the first device of this process."""
    return Layout(MeshShape().mesh(jax.local_devices()[:1]))


def _text(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator='/')


class _Rules:
    """Rules that say which of them was ever used."""

    def __init__(self, rules: Rules, whose: str):
        self._rules, self._whose = rules, whose
        self._used: set[str] = set()

    def find(self, name: str) -> tuple[str | None, ...] | None:
        """The axes for a path; None where no rule speaks. Raises `UserError` where two disagree."""
        found = {pattern: axes for pattern, axes in self._rules if re.search(pattern, name)}
        self._used.update(found)
        if len(set(found.values())) > 1:
            both = ' and '.join(f"'{pattern}' ({axes})" for pattern, axes in found.items())
            raise UserError(f'{name}: {self._whose} disagree: {both}: narrow one of the patterns')
        return next(iter(found.values()), None)

    def check_used(self, tree: Any) -> None:
        for pattern, _ in self._rules:
            if pattern not in self._used:
                paths = [_text(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
                raise UserError(f"{unknown('sharding rule', pattern, paths)}: no path has it")
