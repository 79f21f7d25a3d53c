"""Does it pay to train several seeds as one program? Steps of five seeds under vmap against one after the other.

Both as a loop on the device. Ratios are seconds per seed and step, one after the other / together.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
from timing import Contestant, interleaved, ratio, run_cases
from workload import images, model, on_labels

from kdjax.data.batches import batch_indices
from kdjax.run.program import compiler_options

SEEDS = 5
CASES = {
    'mlp_small': {'spec': 'mlp-32', 'size': 8, 'batch': 64, 'steps': 300},
    'mlp_wide': {'spec': 'mlp-512-512', 'size': 8, 'batch': 64, 'steps': 60},
    'vit': {'spec': 'vit-32-4-p4', 'size': 8, 'batch': 32, 'steps': 40},
    'resnet8': {'spec': 'resnet8', 'size': 8, 'batch': 32, 'steps': 20},
}
SMOKE = {name: {'spec': 'mlp-8', 'size': 4, 'batch': 4, 'steps': 10} for name in CASES}


def contestants(case: dict[str, Any]) -> dict[str, Contestant]:
    """The same steps of the same seeds, in one program or in several calls of one."""
    source, steps = images(2048, case['size']), case['steps']
    algorithm, data = on_labels(model(case['spec'], case['size'])), jax.device_put(source.arrays)
    rows = jnp.asarray(batch_indices(len(source), batch=case['batch'], seed=0, first_step=0, steps=steps))
    example, keys = source.take(jax.device_get(rows[0])), jax.random.split(jax.random.key(0), SEEDS)

    def loop(state: Any, key: jax.Array) -> Any:
        def step(i: Any, state: Any) -> Any:
            return algorithm.step(state, {}, jax.tree.map(lambda field: field[rows[i]], data), key)[0]

        return jax.lax.fori_loop(0, steps, step, state)

    states = jax.jit(jax.vmap(algorithm.init, (0, None, None)))(keys, {}, example)
    apart = [jax.tree.map(lambda x, i=i: x[i], states) for i in range(SEEDS)]
    alone = jax.jit(loop, compiler_options=compiler_options())
    at_once = jax.jit(jax.vmap(loop), compiler_options=compiler_options())

    def timed(call: Any) -> float:
        start = time.perf_counter()
        jax.block_until_ready(call())
        return (time.perf_counter() - start) / SEEDS

    return {
        'one after the other': lambda steps: timed(lambda: [alone(s, k) for s, k in zip(apart, keys, strict=True)]),
        'together': lambda steps: timed(lambda: at_once(states, keys)),
    }


def measure(case: dict[str, Any], *, repeats: int) -> float:
    """Seconds one after the other over seconds together."""
    seconds = interleaved(contestants(case), steps=case['steps'], repeats=repeats)
    return ratio(seconds['one after the other'], seconds['together'])


def main() -> None:
    run_cases('seeds', __doc__, cases=CASES, smoke=SMOKE, measure=measure, goals={})


if __name__ == '__main__':
    main()
