"""A small cache, and a process that writes its share: `python cache_writer.py FOLDER SECONDS PROCESS PROCESSES`.

It rests for so many seconds before each batch, so that it can be killed in the middle.
"""

import functools
import sys
import time

import jax.numpy as jnp
import numpy as np

from kdjax.data.dataset import ArraySource
from kdjax.data.teacher_cache import Hybrid, Plan, answering, write_cache

ROWS, LENGTH, VOCABULARY = 23, 6, 40
SOURCE = ArraySource({'tokens': np.arange(ROWS * LENGTH, dtype=np.int32).reshape(ROWS, LENGTH)})
PLAN = Plan(
    Hybrid(9), vocabulary=VOCABULARY, rows=ROWS, length=LENGTH, teacher='teacher 1', data='corpus/train',
    tokenizer='bytes', seed=5, rows_per_shard=5,
)  # fmt: skip


def speak(batch):
    """A teacher without weights: logits `[batch, length, vocabulary]`, different for every token."""
    seen = batch['tokens'].astype(jnp.float32)[..., None]
    return 3 * jnp.sin(seen * jnp.arange(1.0, VOCABULARY + 1)[None, None] / 7)


@functools.cache
def answers(kind, seed):
    return answering(kind, speak, seed=seed)


def write(folder, *, plan=PLAN, answer=None, **options):
    return write_cache(folder, SOURCE, answer or answers(plan.kind, plan.seed), plan, batch=3, **options)


if __name__ == '__main__':
    told = answers(PLAN.kind, PLAN.seed)

    def slowly(batch):
        time.sleep(float(sys.argv[2]))
        return told(batch)

    write(sys.argv[1], answer=slowly, process=int(sys.argv[3]), processes=int(sys.argv[4]))
