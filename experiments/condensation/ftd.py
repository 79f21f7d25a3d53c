"""FTD: experts in flat regions, so that a network which strays from their way loses little.

Du et al., Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation (arXiv 2211.11004); the experts'
step as in the authors' code (AngusDujw/FTD-distillation, buffer/gsam/gsam.py), g the gradient at w:

    mtt      w - rate g
    sam      w - rate g',          g' the gradient at w + radius w^2 g / (| |w| g | + 1e-12)
    ftd      w - rate (g' - 0.3 v),   v = g without its component along g'
    mtt_twice    mtt with twice as many experts: what FTD's second gradient costs

and then MTT for all: from an expert at epoch s, steps on the set end near epoch s + 2. `_1`, `_10`: images of each
class. `accumulated_error` follows the set from an expert's first weights alone, as a network that learns from it does:
|theta_n - way_2n|^2 / |way_0 - way_2n|^2, mean over n and experts; each method's own experts. No running mean of pixels
is kept for anyone (the authors evaluate one, with a network that has been trained before).

`kdjax verify ftd`: nine minutes on half a core. The rates of `LedDigits` were chosen before, the recipe is that of all
condensed images. Five seeds, test split: nothing is to be seen of flat experts, neither in accuracy, ftd_10 - mtt_10
-0.0040 [-0.0122, +0.0042] of accuracy, nor along the whole way, ftd_1 - mtt_1 -0.032 [-0.069, +0.004] of
accumulated_error, ftd_10 - mtt_10 -0.0014 [-0.0067, +0.0039] of accumulated_error. Contrary: at one image of each class
what follows experts stays behind mean features, ftd_1 - dm_1 -0.119 [-0.152, -0.085] of accuracy, at ten it draws
level, ftd_10 - dm_10 -0.0008 [-0.0157, +0.0141] of accuracy. The student here is a dense network of 32 units; what the
paper claims is of ConvNets, and after many more epochs.
"""

import dataclasses

from kdjax.experiment import Experiment
from kdjax.tasks.condensing.selected import k_means, random
from kdjax.tasks.condensing.trajectories import mtt
from kdjax.tasks.led_digits import LedDigits


@dataclasses.dataclass(frozen=True)
class FTD(LedDigits):
    pass


def arms(task: FTD):
    buffers = {
        'mtt': task.buffer(),
        'mtt_twice': task.buffer('twice_experts', count=2),
        'sam': task.buffer('sam_experts', radius=task.radius, weight=0.0),
        'ftd': task.flat_buffer(),
    }
    found = {}
    for size in (1, 10):
        sized = task.at(size)
        for name, method in (('random', random), ('k_means', k_means), ('dm', LedDigits.by_means)):
            found[f'{name}_{size}'] = sized.measured(method(sized))
        for name, buffer in buffers.items():
            made = mtt(sized, follow=task.follow(), buffer=buffer, name=name)
            found[f'{name}_{size}'] = sized.led(made, buffer, f'{name}_{size}')
    return found


experiment = Experiment(
    title='FTD: flat experts for trajectory matching',
    systems=(145,),
    config=FTD(),
    arms=arms,
    claims=(
        'ftd_1 > mtt_1 on accuracy',
        'ftd_10 > mtt_10 on accuracy',
        'ftd_1 < mtt_1 on accumulated_error',
        'ftd_10 < mtt_10 on accumulated_error',
        'ftd_10 > mtt_twice_10 on accuracy',
        'ftd_1 > dm_1 on accuracy',
        'ftd_10 > dm_10 on accuracy',
    ),
)
