"""A decoder on a mesh of four by two, in a process of its own: prints one JSON object.

loss, slopes: the largest relative difference from one device. gathers: how often an array is put together again.
sums: how many all-reduces of the residual stream the forward pass has.
"""

from __future__ import annotations

import json
import os
import re

os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdjax.models.decoder import DecoderConfig, DecoderInputs, decoder

MESH = Mesh(np.asarray(jax.devices()).reshape(4, 2), ('data', 'tensor'))
MODEL = decoder(DecoderConfig(128, 32, 2, 4, 64, kv_heads=2, tied=False))
ROWS, SEGMENT = np.random.default_rng(0).integers(0, 128, (8, 256)), np.repeat([[1, 2, 3, 0]] * 8, 64, axis=1)


def loss(params, rows, segment):
    said = MODEL.apply({'params': params, 'stats': {}}, DecoderInputs(rows, segment), key=None, train=True)[0]
    return jnp.mean(jax.nn.logsumexp(said.prediction, axis=-1) ** 2)


def placed(path, leaf) -> NamedSharding:
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    axes = next((axes for pattern, axes in MODEL.rules if re.search(f'{pattern}$', name)), ())
    return NamedSharding(MESH, PartitionSpec(*axes))


def relative(one, other) -> float:
    return float(abs(np.asarray(one) - np.asarray(other)).max() / abs(one).max())


def main() -> None:
    params = MODEL.init(jax.random.key(0), None)['params']
    split, by_row = jax.tree_util.tree_map_with_path(placed, params), NamedSharding(MESH, PartitionSpec('data'))
    batch = (jnp.asarray(ROWS, jnp.int32), jnp.asarray(SEGMENT, jnp.int32))
    one, slopes = jax.jit(jax.value_and_grad(loss))(params, *batch)
    step = jax.jit(jax.value_and_grad(loss), in_shardings=(split, by_row, by_row), out_shardings=(None, split))
    many, split_slopes = step(params, *batch)
    off = jax.tree.map(relative, slopes, split_slopes)
    forward = jax.jit(loss, in_shardings=(split, by_row, by_row)).lower(params, *batch).compile().as_text()
    whole = step.lower(params, *batch).compile().as_text()
    said = {
        'loss': abs(float(one - many)) / float(one),
        'slopes': max(jax.tree.leaves(off)),
        'gathers': len(re.findall(r'= .*\b(?:all-gather|all-to-all|collective-permute)(?:-start)?\(', whole)),
        'sums': len(re.findall(r'= f32\[2,256,32\]\S* all-reduce(?:-start)?\(', forward)),
    }
    print(json.dumps(said))


main()
