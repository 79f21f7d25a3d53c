"""DATM: small sets follow experts' early epochs, large ones late epochs, with labels that are learned too.

Guo et al., Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching (arXiv 2310.05773); start,
window and gate as in the authors' code (NUS-HPC-AI-Lab/DATM, distill/DATM.py). The set learns images, logits Y of
labels and the rate of the inner steps; these minimise CE(softmax(Y), p) and are to end 2 epochs after the expert's

    epoch ~ U{first .. upper - 1},   upper = begin + floor((last - begin) step / grows), at most last

    early, late     first a third of the epochs, and the last: fixed windows
    datm            _1 the early window, _20 one that grows from half to all epochs, as their tables have them
    all             all epochs at once: MTT's range, with DATM's start, labels and experts
    mtt             MTT: plain experts, hard labels, random start           full    all real images at equal steps

`_1`, `_20`: images of each class; 20 are a fifth of the data. A set starts at real images that an expert classifies
correctly, Y the mean logits of the experts that do. Experts are FTD's. An update whose distance is above 1 does not
count. `own/accuracy`: the student that learned from Y; the others have hard labels, and the baselines no Y.

`kdjax verify datm`: 13 minutes on a quarter of a core. Nothing was chosen for it but the rates of `LedDigits`, before;
the recipe is that of all condensed images. Five seeds, test split: one image of each class has to follow early epochs,
early_1 - late_1 +0.186 [+0.080, +0.291] of own/accuracy; that twenty have to follow late ones does not show, late_20 -
early_20 +0.0044 [-0.0107, +0.0195] of own/accuracy, but a window that grows beats all epochs at once, datm_20 - all_20
+0.0092 [+0.0001, +0.0183] of own/accuracy, and MTT, datm_20 - mtt_20 +0.010 [+0.001, +0.019] of accuracy. A fifth of
the data, learned, is about as good as all of it, datm_20 - full -0.0044 [-0.0127, +0.0039] of accuracy, which is short
of "within a point" by a little; images near centres of k-means are not clearly worse, datm_20 - k_means_20 +0.0084
[-0.0070, +0.0238] of accuracy.
"""

import dataclasses

from kdjax.experiment import Experiment
from kdjax.tasks.condensing.selected import k_means, random
from kdjax.tasks.condensing.trajectories import datm, mtt
from kdjax.tasks.led_digits import LedDigits


@dataclasses.dataclass(frozen=True)
class DATM(LedDigits):
    threshold: float = 1.0


def arms(task: DATM):
    flat, plain = task.flat_buffer(), task.buffer()
    latest = task.expert_epochs + 1 - task.ahead
    early, late = {'last': latest // 3}, {'first': latest - latest // 3, 'last': latest}
    grown = {'last': latest, 'begin': latest // 2, 'grows': max(1, task.led_steps // 10)}
    found = {}
    for size, aligned in ((1, early), (20, grown)):
        sized = task.at(size)
        windows = {'early': early, 'late': late, 'all': {'last': latest}, 'datm': aligned}
        if size == 1:
            del windows['datm']
        found[f'random_{size}'] = sized.measured(random(sized))
        found[f'k_means_{size}'] = sized.measured(k_means(sized))
        found[f'mtt_{size}'] = sized.measured(mtt(sized, follow=task.follow(), buffer=plain))
        for name, window in windows.items():
            follow = task.follow(threshold=task.threshold, **window)
            found[f'{name}_{size}'] = sized.measured(datm(sized, follow=follow, buffer=flat, name=name))
    return found | {'full': task.on_real_images()}


experiment = Experiment(
    title='DATM: windows of epochs that suit the size of the set',
    systems=(292,),
    config=DATM(),
    arms=arms,
    claims=(
        'early_1 > late_1 on own/accuracy',
        'late_20 > early_20 on own/accuracy',
        'datm_20 > all_20 on own/accuracy',
        'early_1 > mtt_1 on accuracy',
        'datm_20 > mtt_20 on accuracy',
        'datm_20 > full - 0.01 on accuracy',
    ),
)
