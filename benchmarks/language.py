"""Language models of random weights, and the step that distils one into another."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax.algorithms import Algorithm, Player, play
from kdjax.models.decoder import DecoderConfig, decoder
from kdjax.models.model import Model
from kdjax.objectives import Objective
from kdjax.teachers import live

SEED = 0


def llama(
    width: int, depth: int, *, vocabulary: int, head_width: int = 64, groups: int = 1, dtype: str = 'float32'
) -> Model:
    """A Llama: hidden units 8/3 of the width up to a multiple of 64; `groups` query heads share keys and values."""
    heads = width // head_width
    hidden = -(-8 * width // (3 * 64)) * 64
    config = DecoderConfig(vocabulary, width, depth, heads, hidden, kv_heads=max(1, heads // groups))
    return decoder(config, dtype=jnp.dtype(dtype))


def weights(model: Model, *, dtype: str = 'float32') -> dict[str, Any]:
    """Random variables of that type, drawn array by array: the model's own initialisation takes longer to compile."""
    tokens, key = jax.ShapeDtypeStruct((1, 8), jnp.int32), jax.random.key(SEED)
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: model.init(key, tokens)))
    drawn = jax.jit(lambda key, shape: 0.02 * jax.random.normal(key, shape, dtype), static_argnums=1)
    keys = jax.random.split(key, len(leaves))
    made = [drawn(k, x.shape) if x.ndim > 1 else jnp.ones(x.shape, dtype) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, made)


def sentences(rows: int, length: int, vocabulary: int) -> dict[str, jax.Array]:
    """Random tokens and the next ones, `[rows, length]` each."""
    drawn = np.random.default_rng(SEED).integers(0, vocabulary, (rows, length + 1))
    return {'tokens': jnp.asarray(drawn[:, :-1], jnp.int32), 'label': jnp.asarray(drawn[:, 1:], jnp.int32)}


def distillation(student: Model, teacher: Model, objective: Objective) -> Algorithm:
    """One student, one live teacher, AdamW; reads the weights of both, as `start` and `teacher`."""
    player = Player(student, objective, optax.adamw(1e-4), reads=('batch.tokens',), start='start')
    return play({'student': player}, teachers={'teacher': live(teacher, reads='batch.tokens')})


def size(variables: Any) -> int:
    """Parameters."""
    return sum(x.size for x in jax.tree.leaves(variables['params']))
