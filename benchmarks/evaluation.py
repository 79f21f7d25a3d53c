"""Evaluating a condensed set: 8 networks trained on it and tested, by one compiled program and in plain PyTorch.

10 images of each of 10 classes, 28x28; 300 steps of Adam on minibatches of 64, then 1000 test images, in float32; the
images are made up, and cost what real ones do. `dense` (MLP 128-128) trains all networks side by side, `convnet`
(ConvNet-3 of width 32) one after the other, still by one program; PyTorch has a network at a time, on two threads or on
the GPU, where both multiply in TF32.
Ratios are networks a minute, kdjax / PyTorch, without compilation.
"""

from __future__ import annotations

import itertools
import statistics
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import Contestant, arguments, conclude, interleaved, ratio, timed

from kdjax.algorithms.condensation.learning import accuracies, many
from kdjax.models.model import Model
from kdjax.models.named import named

SEED, CLASSES, THREADS, LEARNING_RATE = 0, 10, 2, 1e-3
FULL: dict[str, Any] = {
    'side': 28, 'per_class': 10, 'networks': 8, 'steps': 300, 'batch': 64, 'tested': 1000,
    'dense': (128, 128), 'convnet': (32, 3),
}  # fmt: skip
SMOKE: dict[str, Any] = {
    'side': 8, 'per_class': 1, 'networks': 2, 'steps': 3, 'batch': 4, 'tested': 8, 'dense': (8, 8), 'convnet': (4, 1)
}  # fmt: skip
GOALS = {'dense': '>= 1.5'}
AT_ONCE = {'dense': True, 'convnet': False}


def drawn(setting: dict[str, Any], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images `[number, side, side, 1]` that tell their class by their brightness, and labels."""
    rng, label = np.random.default_rng(SEED), (np.arange(number) % CLASSES).astype(np.int32)
    image = 0.3 * label[:, None, None, None] + rng.standard_normal((number, setting['side'], setting['side'], 1))
    return image.astype(np.float32), label


def network(setting: dict[str, Any], kind: str) -> Model:
    spec = '-'.join(('mlp' if kind == 'dense' else 'convnet', *map(str, setting[kind])))
    norm = 'none' if kind == 'dense' else 'instance'
    return named(spec, classes=CLASSES, image_shape=(setting['side'], setting['side'], 1), norm=norm)


def ours(setting: dict[str, Any], kind: str) -> Contestant:
    model, (images, label) = network(setting, kind), drawn(setting, CLASSES * setting['per_class'])
    real, truth = map(jnp.asarray, drawn(setting, setting['tested']))
    options = {'steps': setting['steps'], 'batch': setting['batch'], 'optimizer': optax.adam(LEARNING_RATE)}
    seeds = itertools.count()

    @jax.jit
    def evaluate(keys, images, labels):
        variables = many(model, images, labels, keys=keys, at_once=AT_ONCE[kind], **options)
        return accuracies(model, variables, real, truth)

    def once() -> Any:
        keys = jax.random.split(jax.random.key(next(seeds)), setting['networks'])
        return jax.device_get(evaluate(keys, jnp.asarray(images), jax.nn.one_hot(label, CLASSES)))

    return timed(once)


def peer(setting: dict[str, Any], kind: str) -> Contestant:
    from torch_condensation import conv_module, evaluated, mlp

    side = setting['side']

    def make() -> Any:
        if kind == 'dense':
            return mlp(side * side, setting[kind], CLASSES)
        return conv_module(side, *setting[kind], CLASSES)

    assert sum(p.numel() for p in make().parameters()) == parameters(setting, kind), 'the two networks differ'
    sizes = {name: setting[name] for name in ('networks', 'steps', 'batch')}
    sets = drawn(setting, CLASSES * setting['per_class']), drawn(setting, setting['tested'])
    return timed(evaluated(make, *sets[0], *sets[1], rate=LEARNING_RATE, **sizes))


def parameters(setting: dict[str, Any], kind: str) -> int:
    """Of our network."""
    model = network(setting, kind)
    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(lambda: model.init(jax.random.key(0), None))['params']))


def main() -> None:
    options = arguments(__doc__, repeats=5)
    try:
        import torch
    except ImportError:
        sys.exit("PyTorch is not installed, so there is nothing to compare with: pip install 'kdjax[peers]'")
    from torch_device import ready

    setting = SMOKE if options.smoke else FULL
    arithmetic = ready(seed=SEED, threads=THREADS)
    ratios = {}
    for kind in AT_ONCE:
        contestants = {f'kdjax {kind}': ours(setting, kind), f'PyTorch {kind}': peer(setting, kind)}
        seconds = interleaved(contestants, steps=1, repeats=options.repeats, warm_up=1)
        for name, values in seconds.items():
            print(f'  {name:<24} {60 * setting["networks"] / statistics.median(values):10.1f} networks a minute')
        ratios[kind] = ratio(seconds[f'PyTorch {kind}'], seconds[f'kdjax {kind}'])
    conclude('evaluation', ratios=ratios, goals=GOALS, versions={'torch': torch.__version__, **arithmetic})


if __name__ == '__main__':
    main()
