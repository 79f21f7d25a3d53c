"""ResNet8x4 <- ResNet32x4, batch 64 at 32x32: a KD step here against the same step in a plain PyTorch loop.

Both run on this machine, in turn, float32, two threads each on a CPU. PyTorch runs in the faster of its two layouts.
Ratios are seconds per step, PyTorch with the live teacher / kdjax.
"""

from __future__ import annotations

import sys

import jax
from timing import arguments, conclude, interleaved, ratio
from workload import SEED, distilled, images, kdjax_loop, model, random_logits

from kdjax.teachers import cached, live

NARROW, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)
FULL = {'student': 'resnet8x4', 'teacher': 'resnet32x4', 'widths': WIDE, 'depths': (8, 32), 'size': 32, 'batch': 64}
SMOKE = {'student': 'resnet8', 'teacher': 'resnet8', 'widths': NARROW, 'depths': (8, 8), 'size': 8, 'batch': 4}
THREADS = 2
GOALS = {'cached_teacher': '>= 1.3'}


def faster_layout(setting: dict, source) -> str:
    """The layout in which PyTorch's step with the live teacher takes less time."""
    from torch_peer import LAYOUTS

    trials = {name: peer(setting, source, name, 'live') for name in LAYOUTS}
    print('PyTorch, live teacher, by layout:', flush=True)
    seconds = interleaved(trials, steps=1, repeats=2, warm_up=1)
    return min(seconds, key=lambda name: min(seconds[name]))


def peer(setting: dict, source, layout: str, teacher: str):
    """PyTorch's loop."""
    from torch_peer import LAYOUTS, cached_teacher, live_teacher, resnet, torch_loop

    small, large = (resnet(depth, setting['widths']) for depth in setting['depths'])
    if teacher == 'live':
        said = live_teacher(large, LAYOUTS[layout])
    else:
        said = cached_teacher(jax.device_get(random_logits(source)['teacher']))
    return torch_loop(small, said, source, batch=setting['batch'], layout=LAYOUTS[layout])


def ours(setting: dict, source, teacher: str):
    """kdjax's loop."""
    student, large = (model(setting[role], setting['size']) for role in ('student', 'teacher'))
    if teacher == 'live':
        said, frozen = live(large), {'teacher': jax.jit(large.init)(jax.random.key(SEED), source.take([0])['image'])}
    else:
        said, frozen = cached(), random_logits(source)
    return kdjax_loop(distilled(student, said), source, batch=setting['batch'], frozen=frozen)


def main() -> None:
    options = arguments(__doc__, repeats=7)
    try:
        import torch
    except ImportError:
        sys.exit("PyTorch is not installed, so there is nothing to compare with: pip install 'kdjax[peers]'")
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    setting = SMOKE if options.smoke else FULL
    source = images(2048, setting['size'])
    layout = faster_layout(setting, source)
    print(f'{setting["student"]} <- {setting["teacher"]}, PyTorch in {layout}:', flush=True)
    seconds = interleaved(
        {
            'kdjax, live': ours(setting, source, 'live'),
            'PyTorch, live': peer(setting, source, layout, 'live'),
            'kdjax, cached': ours(setting, source, 'cached'),
            'PyTorch, cached': peer(setting, source, layout, 'cached'),
        },
        steps=1,
        repeats=options.repeats,
        warm_up=1,
    )
    peers = seconds['PyTorch, live']
    ratios = {
        'live_teacher': ratio(peers, seconds['kdjax, live']),
        'cached_teacher': ratio(peers, seconds['kdjax, cached']),
        'both_cached': ratio(seconds['PyTorch, cached'], seconds['kdjax, cached']),
    }
    conclude('resnet_step', ratios=ratios, goals=GOALS, versions={'torch': torch.__version__})


if __name__ == '__main__':
    main()
