"""An algorithm, compiled once: initialisation, steps, evaluation.

Steps run as a loop on the device over rows of indices, so that small steps are not paid for in dispatches. The number
of steps is a traced number and seeds are traced keys: one trace and one compilation serve every seed and every length.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.algorithm import Algorithm, State

EIGEN_CONVOLUTIONS: dict[str, str | bool] = {
    'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'
}
"""Matrix products through YNNPACK, and nothing else: its convolutions use one core where channels are few.

Measured on two cores, 64 images of 32x32x64, 3x3: 50 ms, by Eigen 28; a ResNet8x4 step of batch 64: 830 and 640 ms.
"""


@functools.cache
def compiler_options() -> dict[str, str | bool]:
    """What XLA is asked for on this backend: `EIGEN_CONVOLUTIONS` on CPU, where this XLA knows the option."""
    if jax.default_backend() != 'cpu':
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=EIGEN_CONVOLUTIONS)()
    except jax.errors.JaxRuntimeError:
        return {}
    return EIGEN_CONVOLUTIONS


class Program:
    """The compiled functions of one arm. `chunk` is the largest number of steps per call of `run`."""

    def __init__(self, algorithm: Algorithm, *, chunk: int = 50):
        self.chunk = chunk
        self.compile_seconds = 0.0
        self.peak_memory_bytes: int | None = None
        self._step = jax.jit(algorithm.step)
        self._init = jax.jit(algorithm.init, compiler_options=compiler_options())
        self._evaluate = jax.jit(algorithm.evaluate, compiler_options=compiler_options())
        self._compiled: Any = None

    def init(self, key: jax.Array, frozen: Any, example: Any) -> State:
        """A fresh state."""
        return self._init(key, frozen, example)

    def run(self, state: State, frozen: Any, data: Any, rows: np.ndarray, key: jax.Array):
        """Steps over `rows`, `[steps <= chunk, batch]` indices into `data`. Donates `state`; returns it and metrics."""
        if self._compiled is None:
            self._compile(state, frozen, data, rows[0], key)
        count = len(rows)
        padded = np.concatenate([rows, np.zeros((self.chunk - count, *rows.shape[1:]), rows.dtype)])
        state, log = self._compiled(state, frozen, data, padded, np.int32(count), key)
        return state, {name: values[:count] for name, values in log.items()}

    def evaluate(self, state: State, frozen: Any, batch: Any, key: jax.Array) -> dict[str, jax.Array]:
        """Predictions for a batch of the evaluation size."""
        return self._evaluate(state, frozen, batch, key)

    def _compile(self, state, frozen, data, row, key) -> None:
        start = time.perf_counter()
        rows = jax.ShapeDtypeStruct((self.chunk, *row.shape), row.dtype)
        lowered = jax.jit(self._many, donate_argnums=0).lower(state, frozen, data, rows, np.int32(0), key)
        self._compiled = lowered.compile(compiler_options())
        self.compile_seconds = time.perf_counter() - start
        self.peak_memory_bytes = _peak(self._compiled)

    def _many(self, state, frozen, data, rows, count, key):
        def body(i, carry):
            state, log = carry
            state, metrics = self._step(state, frozen, _take(data, rows[i]), key)
            return state, jax.tree.map(lambda kept, new: kept.at[i].set(new), log, metrics)

        shapes = jax.eval_shape(self._step, state, frozen, jax.eval_shape(_take, data, rows[0]), key)[1]
        log = jax.tree.map(lambda s: jnp.zeros((self.chunk, *s.shape), s.dtype), shapes)
        return jax.lax.fori_loop(0, count, body, (state, log))


def _take(data: Any, row: Any) -> Any:
    return jax.tree.map(lambda field: field[row], data)


def _peak(compiled: Any) -> int | None:
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    return int(memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes)
