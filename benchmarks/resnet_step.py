"""ResNet8x4 <- ResNet32x4, batch 64 at 32x32: a KD step here against the same step in a plain PyTorch loop.

In turn, in float32; PyTorch on two CPU threads or on the GPU, where both multiply in TF32, and in both of its layouts,
of which the faster one counts.
Ratios are seconds per step, PyTorch / kdjax: `live_teacher` and `cached_teacher` against PyTorch with the
live teacher, `both_cached` where neither runs it.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from timing import Contestant, arguments, conclude, interleaved, ratio
from workload import SEED, distilled, images, kdjax_loop, model, random_logits

from kdjax.data.dataset import ArraySource
from kdjax.teachers import cached, live

FULL = {
    'student': 'resnet8x4', 'teacher': 'resnet32x4', 'widths': (32, 64, 128, 256), 'depths': (8, 32),
    'size': 32, 'batch': 64, 'threads': 2,
}  # fmt: skip
SMOKE = {
    'student': 'mlp-8', 'teacher': 'mlp-8', 'widths': (4, 4, 4, 4), 'depths': (8, 8), 'size': 8, 'batch': 4,
    'threads': 1,
}  # fmt: skip
GOALS = {'cached_teacher': '>= 1.3'}


def ours(setting: dict[str, Any], source: ArraySource) -> dict[str, Contestant]:
    """kdjax's loop with the live and the cached teacher."""
    student, teacher = (model(setting[role], setting['size']) for role in ('student', 'teacher'))
    weights = jax.jit(lambda key: teacher.init(key, None))(jax.random.key(SEED))
    pairs = {'live': (live(teacher), {'teacher': weights}), 'cached': (cached(), random_logits(source))}
    return {
        f'kdjax, {kind}': kdjax_loop(distilled(student, said), source, batch=setting['batch'], frozen=frozen)
        for kind, (said, frozen) in pairs.items()
    }


def peers(setting: dict[str, Any], source: ArraySource) -> dict[str, Contestant]:
    """PyTorch's loop with the live and the cached teacher, in both layouts."""
    from torch_peer import LAYOUTS, cached_teacher, live_teacher, resnet, torch_loop

    found = {}
    for name, layout in LAYOUTS.items():
        for kind in ('live', 'cached'):
            student, teacher = (resnet(depth, setting['widths']) for depth in setting['depths'])
            logits = jax.device_get(random_logits(source)['teacher'])
            said = live_teacher(teacher, layout) if kind == 'live' else cached_teacher(logits)
            loop = torch_loop(student, said, source, batch=setting['batch'], layout=layout)
            found[f'PyTorch {name}, {kind}'] = loop
    return found


def fastest(seconds: Mapping[str, Sequence[float]], kind: str) -> Sequence[float]:
    """PyTorch's times in the layout with the lower median."""
    layouts = [times for name, times in seconds.items() if name.startswith('PyTorch') and name.endswith(kind)]
    return min(layouts, key=statistics.median)


def main() -> None:
    options = arguments(__doc__, repeats=5)
    try:
        import torch
    except ImportError:
        sys.exit("PyTorch is not installed, so there is nothing to compare with: pip install 'kdjax[peers]'")
    from torch_device import ready

    setting = SMOKE if options.smoke else FULL
    arithmetic = ready(seed=SEED, threads=setting['threads'])
    source = images(2048, setting['size'])
    print(f'{setting["student"]} <- {setting["teacher"]}, batch {setting["batch"]}:', flush=True)
    contestants = {**ours(setting, source), **peers(setting, source)}
    seconds = interleaved(contestants, steps=1, repeats=options.repeats, warm_up=1)
    peer = fastest(seconds, 'live')
    ratios = {
        'live_teacher': ratio(peer, seconds['kdjax, live']),
        'cached_teacher': ratio(peer, seconds['kdjax, cached']),
        'both_cached': ratio(fastest(seconds, 'cached'), seconds['kdjax, cached']),
    }
    conclude('resnet_step', ratios=ratios, goals=GOALS, versions={'torch': torch.__version__, **arithmetic})


if __name__ == '__main__':
    main()
