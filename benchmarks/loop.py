"""What the loop costs: that of `kdjax run` against a jitted step in a `for`, at about 50 and 1 ms.

The loop by hand is compiled with the same options and does less: it neither looks at the metrics nor checks them, and
its data order is ready.
Ratios are steps per second, kdjax / by hand.
"""

from __future__ import annotations

import functools
import time

import jax
from timing import Contestant, interleaved, ratio, run_cases
from workload import SEED, images, kdjax_loop, model, on_labels

from kdjax.algorithms.algorithm import Algorithm
from kdjax.data.batches import batch_indices
from kdjax.data.dataset import ArraySource
from kdjax.run.program import compiler_options

CASES = {
    'convolutions_50ms': {'spec': 'resnet8', 'size': 16, 'batch': 96, 'steps': 50},
    'dense_50ms': {'spec': 'mlp-1536-1536', 'size': 32, 'batch': 64, 'steps': 50},
    'dense_1ms': {'spec': 'mlp-64', 'size': 24, 'batch': 64, 'steps': 1000},
}
SMOKE = {name: {'spec': 'mlp-8', 'size': 4, 'batch': 4, 'steps': 60} for name in CASES}
GOALS = {'convolutions_50ms': '>= 0.97', 'dense_50ms': '>= 0.97', 'dense_1ms': '>= 1.0'}


def by_hand(algorithm: Algorithm, source: ArraySource, *, batch: int) -> Contestant:
    """The same steps on the same batches, one call each, with a donated state and the data on the device."""

    @functools.partial(jax.jit, donate_argnums=0, compiler_options=compiler_options())
    def step(state, data, row, key):
        return algorithm.step(state, {}, {name: field[row] for name, field in data.items()}, key)

    init = jax.jit(algorithm.init)
    data = jax.device_put(source.arrays)

    def run(steps: int) -> float:
        key = jax.random.key(SEED)
        rows = batch_indices(len(source), batch=batch, seed=SEED, first_step=0, steps=steps)
        state = jax.block_until_ready(init(key, {}, source.take(rows[0])))
        start = time.perf_counter()
        for row in rows:
            state, _ = step(state, data, row, key)
        jax.block_until_ready(state)
        return time.perf_counter() - start

    return run


def measure(case: dict, *, repeats: int) -> float:
    """Steps per second of the loop over those of the loop by hand."""
    source = images(2048, case['size'])
    algorithm = on_labels(model(case['spec'], case['size']))
    seconds = interleaved(
        {
            'kdjax': kdjax_loop(algorithm, source, batch=case['batch'], frozen={}),
            'by hand': by_hand(algorithm, source, batch=case['batch']),
        },
        steps=case['steps'],
        repeats=repeats,
    )
    return ratio(seconds['by hand'], seconds['kdjax'])


def main() -> None:
    run_cases('loop', __doc__, cases=CASES, smoke=SMOKE, measure=measure, goals=GOALS)


if __name__ == '__main__':
    main()
