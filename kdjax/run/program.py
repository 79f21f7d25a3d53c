"""An algorithm, compiled once: initialisation, steps, evaluation.

Steps run as a loop on the device over rows of indices, so that small steps are not paid for in dispatches. The number
of steps is a traced number and seeds are traced keys: one trace and one compilation serve every seed and every length.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.algorithm import Algorithm, State
from kdjax.run.layout import FSDP, Layout, single

Options = dict[str, Any]

EIGEN_CONVOLUTIONS: Options = {'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'}
"""Matrix products through YNNPACK, and nothing else: its convolutions use one core where channels are few.

Measured on two cores, 64 images of 32x32x64, 3x3: 50 ms, by Eigen 28; a ResNet8x4 step of batch 64: 830 and 640 ms.
"""

COMPILED_QUICKLY: Options = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
"""For what runs once. Measured on the first weights of a ResNet8 and its exits: 10.1 s to compile, so 2.2."""


@functools.cache
def compiler_options(*, once: bool = False) -> Options:
    """What XLA is asked for on CPU, where it knows the option: for steps, or for what runs once."""
    wanted = COMPILED_QUICKLY if once else EIGEN_CONVOLUTIONS
    if jax.default_backend() != 'cpu':
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=wanted)()
    except jax.errors.JaxRuntimeError:
        return {}
    return wanted


class Program:
    """The compiled functions of one arm on one layout. `chunk` is the largest number of steps per call of `run`."""

    def __init__(self, algorithm: Algorithm, *, chunk: int = 50, layout: Layout | None = None):
        self.algorithm, self.chunk, self.layout = algorithm, chunk, layout or single()
        self.compile_seconds = 0.0
        self.peak_memory_bytes: int | None = None
        self._step = jax.jit(self._gathering(algorithm.step))
        self._evaluate = jax.jit(
            self._gathering(algorithm.evaluate),
            out_shardings=self.layout.replicated,
            compiler_options=compiler_options(),
        )
        self._compiled: Any = None

    def _gathering(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same on state and frozen arrays whose weights are gathered first, in every step anew.

        The barrier is what keeps XLA from gathering frozen weights once, before the steps, and holding them whole.
        """
        layout, algorithm = self.layout, self.algorithm
        if layout.mesh.shape[FSDP] == 1:
            return call

        def gathering(state: State, frozen: Any, batch: Any, key: jax.Array) -> Any:
            frozen, batch = jax.lax.optimization_barrier((frozen, batch))
            state = layout.gathered(state, layout.of_state(state, algorithm.rules))
            frozen = layout.gathered(frozen, layout.of_frozen(frozen, algorithm.frozen_rules))
            return call(state, frozen, batch, key)

        return gathering

    def place(self, frozen: Any) -> Any:
        """Frozen arrays on the devices, as their rules say."""
        return self.layout.place(frozen, self.layout.of_frozen(frozen, self.algorithm.frozen_rules))

    def abstract(self, frozen: Any, example: Any, key: jax.Array | None = None) -> State:
        """Shape, type and sharding of every array of the state: what is initialised, trained and restored into.

        key: as for `init`, where it is not of one seed.
        """
        shapes = jax.eval_shape(self.algorithm.init, jax.random.key(0) if key is None else key, frozen, example)
        shardings = self.layout.of_state(shapes, self.algorithm.rules)
        return jax.tree.map(lambda s, on: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=on), shapes, shardings)

    def init(self, key: jax.Array, frozen: Any, example: Any) -> State:
        """A fresh state."""
        shardings = jax.tree.map(lambda s: s.sharding, self.abstract(frozen, example, key))
        options = compiler_options(once=True)
        init = jax.jit(self.algorithm.init, out_shardings=shardings, compiler_options=options)
        return init(self._on_all(key), frozen, self._on_all(example))

    def run(self, state: State, frozen: Any, data: Any, rows: np.ndarray, key: jax.Array):
        """Steps over `rows`, `[steps <= chunk, ...]`: step i reads `data[rows[i]]`, which is a batch.

        Donates `state`; returns it, and the metrics of every step.
        """
        count = len(rows)
        padded = np.concatenate([rows, np.zeros((self.chunk - count, *rows.shape[1:]), rows.dtype)])
        arguments = frozen, data, self._on_all(padded), np.int32(count), self._on_all(key)
        if self._compiled is None:
            self._compile(state, *arguments)
        state, log = self._compiled(state, *arguments)
        return state, {name: values[:count] for name, values in log.items()}

    def evaluate(self, state: State, frozen: Any, batch: Any, key: jax.Array) -> dict[str, jax.Array]:
        """Predictions for a batch of the evaluation size, whole on every device."""
        size = len(jax.tree.leaves(batch)[0])
        where = self.layout.replicated if size % self.layout.shards else self.layout.batch()
        return self._evaluate(state, frozen, self.layout.place(batch, where), self._on_all(key))

    def apart(self, tree: Any, runs: int) -> list[Any]:
        """What belongs to each of the runs that the program trains: all of it, since it trains one."""
        return [tree]

    def _on_all(self, tree: Any) -> Any:
        return self.layout.place(tree, self.layout.replicated)

    def lower(self, state: State, frozen: Any, data: Any, rows: Any, count: Any, key: Any) -> jax.stages.Lowered:
        """`run`, not yet compiled, for arguments or for their shapes: what a machine that is not here would compute."""
        shardings = self.layout.of_state(state, self.algorithm.rules), self.layout.replicated
        many = jax.jit(self._many, donate_argnums=0, out_shardings=shardings)
        return many.lower(state, frozen, data, rows, count, key)

    def _compile(self, state, *arguments) -> None:
        start = time.perf_counter()
        self._compiled = self.lower(state, *arguments).compile(compiler_options())
        self.compile_seconds = time.perf_counter() - start
        self.peak_memory_bytes = _peak(self._compiled)

    def _many(self, state, frozen, data, rows, count, key):
        def body(i, carry):
            state, log = carry
            state, metrics = self._step(state, frozen, self._take(data, rows[i]), key)
            return state, jax.tree.map(lambda kept, new: kept.at[i].set(new), log, metrics)

        shapes = jax.eval_shape(self._step, state, frozen, self._take(data, rows[0]), key)[1]
        log = jax.tree.map(lambda s: jnp.zeros((self.chunk, *s.shape), s.dtype), shapes)
        return jax.lax.fori_loop(0, count, body, (state, log))

    def _take(self, data: Any, row: Any) -> Any:
        batch = jax.tree.map(lambda field: field[row], data)
        return jax.lax.with_sharding_constraint(batch, self.layout.batch())


def _peak(compiled: Any) -> int | None:
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    return int(memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes)
