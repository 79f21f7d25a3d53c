"""Does it pay to train five seeds as one program? On one device under vmap; on two, a seed or three on each.

The loop of `kdjax verify`. Ratios are seconds of five runs one after the other on one device / by `--seeds-at-once`.
KDJAX_DEVICES=2 makes two devices of a CPU; without, what needs two is left out.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
from timing import Contestant, interleaved, ratio, run_cases
from workload import images, model, on_labels

from kdjax.run.fit import Events, fit
from kdjax.run.group import distributed
from kdjax.run.layout import Layout, MeshShape, single
from kdjax.run.program import Program
from kdjax.run.together import Together, places

SEEDS = 5
MODELS = {
    'mlp_small': {'spec': 'mlp-32', 'size': 8, 'batch': 64, 'steps': 300},
    'mlp_wide': {'spec': 'mlp-512-512', 'size': 8, 'batch': 64, 'steps': 60},
    'vit': {'spec': 'vit-32-4-p4', 'size': 8, 'batch': 32, 'steps': 40},
    'resnet8': {'spec': 'resnet8', 'size': 8, 'batch': 32, 'steps': 20},
}
TINY = {'spec': 'mlp-8', 'size': 4, 'batch': 4, 'steps': 10}
WAYS = {
    '5_on_1_device': {'devices': 1, 'at_once': 5},
    '2_on_2_devices': {'devices': 2, 'at_once': 2},
    '5_on_2_devices': {'devices': 2, 'at_once': 5},
}
CASES = {f'{m}_{w}': MODELS[m] | WAYS[w] for m, w in itertools.product(MODELS, WAYS)}
SMOKE = {name: TINY | WAYS[name] for name in WAYS}


def contestants(case: dict[str, Any]) -> dict[str, Contestant]:
    """The same seeds, in one program or in several calls of one. Compilation is not counted."""
    source, algorithm = images(2048, case['size']), on_labels(model(case['spec'], case['size']))
    layout = Layout(MeshShape().mesh(jax.devices()[: case['devices']]))
    held = places(case['at_once'], layout)
    alone, together = Program(algorithm, layout=single()), Together(algorithm, held, layout=layout)
    groups = [tuple(range(SEEDS))[first : first + held] for first in range(0, SEEDS, held)]
    full = [group + group[-1:] * (held - len(group)) for group in groups]

    def run(program: Program, steps: int, seed: Any) -> float:
        made = fit(program, source, batch=case['batch'], steps=steps, seed=seed, frozen={}, events=Events())
        return made.seconds / SEEDS

    return {
        'one after the other': lambda steps: sum(run(alone, steps, seed) for seed in range(SEEDS)),
        'together': lambda steps: sum(run(together, steps, group) for group in full),
    }


def measure(case: dict[str, Any], *, repeats: int) -> float:
    """Seconds one after the other over seconds together."""
    seconds = interleaved(contestants(case), steps=case['steps'], repeats=repeats)
    return ratio(seconds['one after the other'], seconds['together'])


def main() -> None:
    distributed.start()
    cases, smoke = (
        {name: case for name, case in every.items() if case['devices'] <= jax.device_count()}
        for every in (CASES, SMOKE)
    )
    run_cases('seeds', __doc__, cases=cases, smoke=smoke, measure=measure, goals={})


if __name__ == '__main__':
    main()
