"""The fused vocabulary loss on eight devices, in a process of its own, on named meshes: prints one JSON object.

values, slopes: the largest relative difference from one device. moved: arrays that are put together again or handed on,
as large as a chunk's logits or the head would be.
"""

from __future__ import annotations

import json
import os
import re
import sys

os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdjax.losses import _fused_rows, fused, fused_divergence
from kdjax.losses.pointwise import jsd

TOKENS, WIDTH, WORDS, CHUNK = 64, 8, 4096, 16
MESHES = {'data': (8, 1), 'tensor': (1, 8), 'both': (4, 2)}
fused.WORDS_AT_ONCE = {'cpu': 128}  # so that each device has blocks
_fused_rows.ENTRIES_AT_ONCE = {'cpu': 8 * WORDS}  # so that a chunk has parts


HOW: dict[str, dict[str, int]] = {'even': {}, 'uneven': {}, 'by words': {'words_at_once': 200}}


def step(h, w, t, u, label, where, how):
    options = {'divergence': jsd(0.3), 'hard_weight': 0.2, 'where': where, 'chunk': CHUNK, **HOW[how]}

    def total(h, w):
        values = fused_divergence(h, w, label, t, u, **options)
        weights = 1 + jnp.arange(TOKENS) % 3 if how == 'uneven' else 1
        return jnp.sum(values * weights) / jnp.sum(where), values

    return jax.value_and_grad(total, (0, 1), has_aux=True)(h, w)


def relative(one, other) -> float:
    return float(abs(np.asarray(one) - np.asarray(other)).max() / abs(np.asarray(one)).max())


def moved(program: str) -> list[str]:
    found = re.findall(r'= (.*?) (?:all-gather|all-to-all|collective-permute)(?:-start)?\(', program)
    sizes = {shape: max(np.prod([int(n) for n in s.split(',') if n]) for s in re.findall(r'\[([\d,]*)\]', shape))
             for shape in found}  # fmt: skip
    return [shape for shape, size in sizes.items() if size >= WORDS]


def main(meshes: list[str]) -> None:
    rng = np.random.default_rng(0)
    arrays = (rng.normal(size=shape) for shape in ((TOKENS, WIDTH), (WORDS, WIDTH)) * 2)
    args = (*(jnp.asarray(x, jnp.float32) for x in arrays), jnp.asarray(rng.integers(WORDS, size=TOKENS), jnp.int32))
    args = (*args, jnp.arange(TOKENS) % 5 > 0)
    said = {}
    for how in HOW:
        (_, values), slopes = jax.jit(step, static_argnums=6)(*args, how)
        for name in meshes:
            mesh = Mesh(np.asarray(jax.devices()).reshape(MESHES[name]), ('data', 'tensor'))
            row, head = (NamedSharding(mesh, PartitionSpec(axis)) for axis in ('data', 'tensor'))
            split = jax.jit(
                step, static_argnums=6, in_shardings=(row, head, row, head, row, row),
                out_shardings=((None, row), (row, head)),
            )  # fmt: skip
            program = split.lower(*args, how).compile()
            (_, got), got_slopes = program(*args)
            said[f'{name} {how}'] = {
                'values': relative(values, got),
                'slopes': max(map(relative, slopes, got_slopes)),
                'moved': moved(program.as_text()),
            }
    print(json.dumps(said))


main(sys.argv[1:])
