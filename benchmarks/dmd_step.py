"""One step of DMD2 on images of 28x28, here and in a plain PyTorch loop, on this machine: seconds a step, batch 128.

A step moves the fake score and its head once (denoising, discrimination), then the generator once (distribution
matching with the teacher, the GAN through the head). Generator, fake score and teacher are one network, a small DiT or
a small U-Net with random weights, in float32, with AdamW; PyTorch on two CPU threads or on the GPU, in both of its
layouts for the U-Net, of which the faster one counts; on a GPU both multiply in TF32. Ratios are seconds a step,
PyTorch / kdjax.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import Contestant, arguments, conclude, interleaved, ratio, timed

from kdjax import teachers
from kdjax.algorithms import Player, play
from kdjax.algorithms.generators import Terms
from kdjax.diffusion import Denoiser, Karras
from kdjax.models.model import Model
from kdjax.models.named_denoiser import named_denoiser
from kdjax.objectives import Objective

SEED, CLASSES, THREADS, LEARNING_RATE, GAN, HEAD = 0, 10, 2, 1e-4, 3e-3, 1e-2
START = 80.0
SCHEDULE = Karras(0.002, START)
FULL = {'size': 28, 'batch': 128, 'dit': (128, 4, 4, 4), 'unet': ((32, 64), 2)}
SMOKE = {'size': 8, 'batch': 4, 'dit': (8, 1, 4, 2), 'unet': ((8, 8), 2)}
GOALS = {'cpu': {'dit': '>= 1.0', 'unet': '>= 0.6'}, 'gpu': {'dit': '>= 1.0', 'unet': '>= 1.0'}}
DENOISES = ('batch.noised', 'batch.time', 'batch.label')


def named(setting: dict[str, Any], kind: str) -> str:
    if kind == 'dit':
        return 'dit-{}-{}-p{}-h{}'.format(*setting['dit'])
    widths, patch = setting['unet']
    return f'unet-{"-".join(map(str, widths))}-p{patch}'


def network(setting: dict[str, Any], kind: str) -> Model:
    return named_denoiser(named(setting, kind), classes=CLASSES, shape=(setting['size'], setting['size'], 1))


def denoiser(function: Any, name: str) -> Denoiser:
    """The network's output is F of EDM."""
    return Denoiser(
        lambda x, t, condition: function((x, t, condition)).prediction, SCHEDULE, 'edm', sigma_data=1.0, name=name
    )


def generator(model: Model) -> Model:
    """The data prediction at the first time, on the same variables."""

    def apply(variables: Any, inputs: Any, *, key: jax.Array, train: bool) -> tuple[Any, Any]:
        outputs, variables = model.apply(variables, inputs, key=key, train=train)
        said = denoiser(lambda _: outputs, 'student').data(*inputs)
        return dataclasses.replace(outputs, prediction=said), variables

    return Model(model.init, apply, f'generator({model.name})', model.rules)


def objectives() -> tuple[Objective, Objective]:
    """Of the fake score with its head, and of the generator."""
    terms = Terms(denoiser)
    follow = terms.denoising() + HEAD * terms.discrimination()
    return follow, terms.distribution_matching() + GAN * terms.persuasion()


def prepared(batch: dict[str, jax.Array], *, key: jax.Array, train: bool) -> dict[str, jax.Array]:
    del train
    noise = jax.random.normal(key, batch['data'].shape)
    start = jnp.ones(len(noise))
    return {**batch, 'prior': START * noise, 'start': start, 'noised': batch['data'], 'time': start}


def ours(setting: dict[str, Any], kind: str, batch: dict[str, np.ndarray]) -> Contestant:
    model, (follow, lead) = network(setting, kind), objectives()
    reads = 'batch.prior', 'batch.start', 'batch.label'
    players = {
        'fake': Player(model, follow, optax.adamw(LEARNING_RATE), DENOISES, 'teacher'),
        'student': Player(generator(model), lead, optax.adamw(LEARNING_RATE), reads, 'teacher'),
    }
    taught = {'teacher': teachers.live(model, reads=DENOISES)}
    algorithm = play(players, teachers=taught, prepare=prepared, turns='in_order')
    key, seen = jax.random.key(SEED), jax.tree.map(jnp.asarray, batch)
    frozen = {'teacher': jax.jit(lambda key: model.init(key, None))(key)}
    held = [jax.jit(algorithm.init)(key, frozen, seen)]
    step = jax.jit(algorithm.step, donate_argnums=0).lower(held[0], frozen, seen, key).compile()

    def once() -> None:
        held[0], metrics = step(held[0], frozen, seen, key)
        jax.block_until_ready((held[0], metrics))

    return timed(once)


def peers(setting: dict[str, Any], kind: str, batch: dict[str, np.ndarray]) -> dict[str, Contestant]:
    """PyTorch's step, in each layout that may pay."""
    import torch
    from torch_dmd import dmd_step

    layouts = {'NCHW': torch.contiguous_format} | ({'NHWC': torch.channels_last} if kind == 'unet' else {})
    made = {}
    for name, layout in layouts.items():
        step, count = dmd_step(setting, kind, batch, layout)
        assert count == parameters(setting, kind), 'the two networks differ'
        made[f'PyTorch {kind}, {name}'] = timed(step)
    return made


def parameters(setting: dict[str, Any], kind: str) -> int:
    """Of our network."""
    model = network(setting, kind)
    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(lambda: model.init(jax.random.key(0), None))['params']))


def examples(setting: dict[str, Any]) -> dict[str, np.ndarray]:
    rng, shape = np.random.default_rng(SEED), (setting['batch'], setting['size'], setting['size'], 1)
    label = (np.arange(setting['batch']) % CLASSES).astype(np.int32)
    return {'data': rng.standard_normal(shape, np.float32), 'label': label}


def main() -> None:
    options = arguments(__doc__, repeats=7)
    try:
        import torch
    except ImportError:
        sys.exit("PyTorch is not installed, so there is nothing to compare with: pip install 'kdjax[peers]'")
    from torch_device import ready

    setting, goals = SMOKE if options.smoke else FULL, GOALS['cpu' if jax.default_backend() == 'cpu' else 'gpu']
    arithmetic = ready(seed=SEED, threads=THREADS)
    batch, ratios = examples(setting), {}
    for kind in goals:
        print(f'{named(setting, kind)}, batch {setting["batch"]} at {setting["size"]}x{setting["size"]}:', flush=True)
        contestants = {f'kdjax {kind}': ours(setting, kind, batch), **peers(setting, kind, batch)}
        seconds = interleaved(contestants, steps=1, repeats=options.repeats, warm_up=1)
        peer = min((times for name, times in seconds.items() if name.startswith('PyTorch')), key=statistics.median)
        ratios[kind] = ratio(peer, seconds[f'kdjax {kind}'])
    conclude('dmd_step', ratios=ratios, goals=goals, versions={'torch': torch.__version__, **arithmetic})


if __name__ == '__main__':
    main()
