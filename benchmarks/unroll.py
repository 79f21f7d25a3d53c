"""The exact gradient of trajectory matching through T inner steps, here and in PyTorch with `create_graph`.

ConvNet-3 of width 32 on 10 images of each of 10 classes, 28x28, inner steps on 20 of them, the same in both, float32;
T = 10, 20, 50. Every measurement is a child process of its own: two outer steps, of which the second is measured, by
the clock and by the highest resident memory beyond what was resident before it (Linux). PyTorch has two CPU threads.
On a GPU neither multiplies in TF32, and memory is the device's: of ours the temporaries and results of the compiled
step, of PyTorch the highest that was allocated beyond what was allocated before.

Ratios: `memory_T` PyTorch / kdjax of that memory; `seconds_T` the same of time; `growth` how our temporaries
(`memory_analysis`; parameters and data are not among them) grow from the least T to the largest, over the root of T's
growth: at most 1 is no faster than sqrt(T). Ends where the two do not compute the same loss and gradient.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from timing import arguments, conclude

SEED, CLASSES, THREADS, RATE = 0, 10, 2, 0.02
FULL: dict[str, Any] = {'side': 28, 'per_class': 10, 'batch': 20, 'width': 32, 'depth': 3, 'steps': (10, 20, 50)}
SMOKE: dict[str, Any] = {'side': 8, 'per_class': 1, 'batch': 4, 'width': 4, 'depth': 1, 'steps': (2, 5)}
WHO = ('kdjax', 'torch')

Step = Callable[[], tuple[float, np.ndarray]]
"""One outer step: the loss, and its gradient in the images."""

Watch = Callable[[], Callable[[], int]]
"""Begins to watch memory; what it gives tells the bytes held at most, beyond those at the beginning."""


def drawn(setting: dict[str, Any]) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """Parameters to start from and to arrive at, images `[examples, side, side, 1]` and one-hot labels."""
    import jax

    model = network(setting)
    start = jax.device_get(jax.jit(lambda key: model.init(key, None)['params'])(jax.random.key(SEED)))
    rng = np.random.default_rng(SEED)
    target = jax.tree.map(lambda p: p + 0.05 * rng.standard_normal(p.shape).astype(np.float32), start)
    label = np.eye(CLASSES, dtype=np.float32)[np.arange(CLASSES * setting['per_class']) % CLASSES]
    image = rng.standard_normal((len(label), setting['side'], setting['side'], 1)).astype(np.float32)
    return start, target, image, label


def network(setting: dict[str, Any]) -> Any:
    from kdjax.models.named import named

    shape = setting['side'], setting['side'], 1
    return named(f'convnet-{setting["width"]}-{setting["depth"]}', classes=CLASSES, image_shape=shape, norm='instance')


def ours(setting: dict[str, Any], steps: int) -> tuple[Step, int, Watch]:
    """The compiled outer step, bytes of its temporaries, and how its memory is watched."""
    import jax
    import jax.numpy as jnp

    from kdjax.algorithms.condensation.trajectory import trajectory_matching

    start, target, image, label = drawn(setting)
    model, sizes = network(setting), {'steps': steps, 'batch': setting['batch']}

    def loss(image, rate, label, piece):
        rows = (x.reshape(-1, CLASSES, *x.shape[1:]) for x in (image, label))
        distance, _ = trajectory_matching(*rows, rate, piece, model=model, key=jax.random.key(SEED), **sizes)
        return distance[0]

    on_cpu = jax.default_backend() == 'cpu'
    if not on_cpu:
        jax.config.update('jax_default_matmul_precision', 'highest')
    given = jax.tree.map(jnp.asarray, (image, np.float32(RATE), label, {'start': start, 'target': target}))
    program = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*given).compile()

    def call() -> tuple[float, np.ndarray]:
        value, (of_image, _) = jax.block_until_ready(program(*given))
        return float(value), np.asarray(of_image)

    memory = program.memory_analysis()
    on_device = memory.temp_size_in_bytes + memory.output_size_in_bytes
    return call, memory.temp_size_in_bytes, watch_resident if on_cpu else lambda: lambda: on_device


def peer(setting: dict[str, Any], steps: int) -> tuple[Step, int, Watch]:
    from torch_condensation import outer_step
    from torch_device import DEVICE, ready, watch_allocated

    ready(seed=SEED, threads=THREADS, tf32=False)
    step = outer_step(*drawn(setting), RATE, rows_of(setting, steps))
    return step, 0, watch_resident if DEVICE == 'cpu' else watch_allocated


def rows_of(setting: dict[str, Any], steps: int) -> np.ndarray:
    """The images that our inner steps take, `[steps, batch]`."""
    import jax

    from kdjax.algorithms.condensation.trajectory import minibatch
    from kdjax.streams import stream

    size, order = CLASSES * setting['per_class'], stream(jax.random.key(SEED), 'order')
    of_step = jax.jit(lambda i: minibatch(i, size, setting['batch'], key=order))
    return np.stack([of_step(np.int32(i)) for i in range(steps)])


def measured(who: str, setting: dict[str, Any], steps: int) -> dict[str, Any]:
    """Of the second outer step of this process: seconds, bytes; and what was computed."""
    step, temporaries, watch = (ours if who == 'kdjax' else peer)(setting, steps)
    step()
    gc.collect()
    held = watch()
    begin = time.perf_counter()
    value, gradient = step()
    seconds = time.perf_counter() - begin
    return {
        'seconds': seconds, 'held': held(), 'temporaries': temporaries, 'loss': value,
        'norm': float(np.linalg.norm(gradient)), 'along': float(np.sum(gradient * probe(gradient.shape))),
    }  # fmt: skip


def probe(shape: tuple[int, ...]) -> np.ndarray:
    """A direction at random: two gradients with one norm and one slope along it are the same one."""
    return np.random.default_rng(SEED + 1).standard_normal(shape)


def watch_resident() -> Callable[[], int]:
    """Of this process, in host memory."""
    given_back()
    before = resident('VmRSS')
    forget_the_highest()
    return lambda: max(resident('VmHWM') - before, 4096)


def resident(field: str) -> int:
    """Bytes of this process by a field of Linux's status file: VmRSS now, VmHWM the highest."""
    status = pathlib.Path('/proc/self/status').read_text()
    return 1024 * int(re.search(rf'{field}:\s+(\d+) kB', status)[1])  # type: ignore[index]


def forget_the_highest() -> None:
    """VmHWM begins anew."""
    pathlib.Path('/proc/self/clear_refs').write_text('5')


def given_back() -> None:
    """Memory that was freed, by a compilation say, is the system's again, so that using it again counts."""
    ctypes.CDLL(None).malloc_trim(0)


def child(who: str, steps: int, *, smoke: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, '--child', who, str(steps), *['--smoke'] * smoke]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        sys.exit(f'{who} at {steps} steps ended with {found.returncode}: {found.stderr[-2000:]}')
    return json.loads(found.stdout.splitlines()[-1])


def compared(steps: int, *, smoke: bool, repeats: int) -> dict[str, dict[str, Any]]:
    """Medians of both, in turns; ends where they do not compute the same."""
    rounds: dict[str, list[dict[str, Any]]] = {who: [] for who in WHO}
    for _ in range(repeats):
        for who in WHO:
            rounds[who].append(child(who, steps, smoke=smoke))
    found = {who: {n: statistics.median(r[n] for r in said) for n in said[0]} for who, said in rounds.items()}
    for name in ('loss', 'norm', 'along'):
        if not math.isclose(found['kdjax'][name], found['torch'][name], rel_tol=0.01):
            sys.exit(f'{name} after {steps} steps: {found["kdjax"][name]} here, {found["torch"][name]} in PyTorch')
    for who, said in found.items():
        beyond = f'{said["held"] / 1e6:10.1f} MB held, {said["temporaries"] / 1e6:.1f} MB of temporaries'
        print(f'  {who:<8} T = {steps:<4} {said["seconds"]:10.3f} s {beyond}', flush=True)
    return found


def main() -> None:
    options = arguments(__doc__, repeats=3)
    try:
        import torch
    except ImportError:
        sys.exit("PyTorch is not installed, so there is nothing to compare with: pip install 'kdjax[peers]'")
    arithmetic = {'arithmetic': 'float32 in both'} if torch.cuda.is_available() else {}
    lengths = (SMOKE if options.smoke else FULL)['steps']
    found = {steps: compared(steps, smoke=options.smoke, repeats=options.repeats) for steps in lengths}
    ratios = {
        f'{name}_{steps}': said['torch'][field] / said['kdjax'][field]
        for name, field in (('memory', 'held'), ('seconds', 'seconds'))
        for steps, said in found.items()
    }
    least, most = min(lengths), max(lengths)
    held = {steps: found[steps]['kdjax']['temporaries'] for steps in (least, most)}
    ratios['growth'] = held[most] / held[least] / math.sqrt(most / least)
    goals = {f'memory_{most}': '>= 4', 'growth': '<= 1'}
    conclude('unroll', ratios=ratios, goals=goals, versions={'torch': torch.__version__, **arithmetic})


if __name__ == '__main__':
    if '--child' in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument('--child', nargs=2)
        parser.add_argument('--smoke', action='store_true')
        asked = parser.parse_args()
        print(json.dumps(measured(asked.child[0], SMOKE if asked.smoke else FULL, int(asked.child[1]))))
    else:
        main()
