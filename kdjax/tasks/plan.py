"""What a distillation is going to take: memory on each device, tokens, operations."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.algorithms.algorithm import Execution
from kdjax.losses import fused
from kdjax.models.count import parameters
from kdjax.models.decoder_config import DecoderConfig
from kdjax.models.model import Variables
from kdjax.tasks.distillation import Distillation


def tokens(work: Distillation) -> int:
    """How many a run reads."""
    return work.steps * work.batch * work.data.length


def operations(work: Distillation) -> float:
    """6 N_s + 2 N_t for each token (arXiv 2001.08361, sec. 2.1); attention itself and evaluation are not counted.

    N are the weights that a token is multiplied with: an embedding that is no head is looked up. A teacher whom the
    objective does not read does nothing.
    """
    taught = bool(work.spec.divergences)
    student, teacher = (_multiplied(each.config, each.variables) for each in (work.student, work.teacher))
    return tokens(work) * (6.0 * student + taught * 2.0 * teacher)


def memory(work: Distillation, execution: Execution, *, split: int = 1, shards: int = 1) -> dict[str, int]:
    """Bytes on each device, by what holds them; activations and logits are estimates.

    split: over how many devices the weights of one model are split. shards: over how many a batch is.
    """
    everything = _bytes(work.student.variables)
    trained = _bytes(jax.eval_shape(work.start, jax.random.key(0))['params'])
    rows = work.batch / execution.accumulate / shards
    config = work.student.config
    held = {'student weights held': everything // split} if work.adapters else {}
    return {
        'student weights trained': trained // split,
        **held,
        'gradients': (trained + (everything if work.adapters else 0)) // split,
        'optimizer': 2 * trained // split,
        'teacher weights': _bytes(work.teacher.variables) // split,
        'activations (estimate)': int(rows * work.data.length * _kept_for_a_token(config, work.data.length, execution)),
        'logits at once (estimate)': _logits(work),
    }


def _kept_for_a_token(config: DecoderConfig, length: int, execution: Execution) -> int:
    """Bytes that the backward pass of the student keeps of a token."""
    size = jnp.dtype(execution.dtype).itemsize
    attention = (2 * config.heads + 2 * config.kv_heads) * config.head_width
    block = size * (4 * config.width + attention + 4 * config.hidden) + 4 * config.heads * length
    return size * config.width * (config.depth + 2) + block * (1 if execution.remat else config.depth)


def _logits(work: Distillation) -> int:
    """Of a chunk: of both models, probabilities and slopes; and the gradient of the head."""
    at_once = fused.LOGITS_AT_ONCE.get(jax.default_backend(), fused.ON_ACCELERATORS)
    words = work.student.config.vocabulary
    return 4 * (4 * min(at_once, words * work.batch * work.data.length) + words * work.student.config.width)


def _multiplied(config: DecoderConfig, variables: Variables) -> int:
    looked_up = 0 if config.tied else math.prod(variables['params']['embedding']['table'].shape)
    positions = variables['params'].get('position', {'table': jnp.zeros(0)})['table']
    return parameters(variables) - looked_up - math.prod(positions.shape)


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
