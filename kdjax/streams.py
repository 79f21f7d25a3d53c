"""Named random streams: nothing to save, and adding a stream disturbs no other.

A run has one key. Every draw folds in the name of its stream and, where it repeats, the step:
`stream(key, 'augment', step)`. The same (seed, name, step) gives the same bits on any mesh and after any resume.
"""

from __future__ import annotations

import zlib

import jax


def stream(key: jax.Array, name: str, step: jax.typing.ArrayLike | None = None) -> jax.Array:
    """The key of a named stream, at a step if one is given. `key` is typed (`jax.random.key`); `step` may be traced."""
    key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return key if step is None else jax.random.fold_in(key, step)
