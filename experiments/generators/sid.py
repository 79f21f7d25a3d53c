"""SiD: a generator that matches scores through both networks, without data.

Zhou et al., Score identity Distillation (arXiv 2404.04057); loss as in the authors' code (mingyuanzhou/SiD,
training/sid_loss.py). x = G(z) = D(2.5 z, 2.5) at first; f and p the data predictions of teacher and fake score at
x_t = x + sigma n, sigma on the Karras ladder up to 24; gradients pass through both networks to x:

    sid          sum (f - p) ((f - x) - 1.2 (f - p)) / sg(mean |x - f|)
    sid_1, sid_half, fisher      the same with 1, 0.5 and 0 in place of 1.2; at 0 it is the plain Fisher term
    dmd          grad_x = (p - f) / mean |x - f|          diff_instruct          grad_x = p - f
    teacher      Heun, 35 evaluations

The fake score learns by EDM's denoising at log-normal levels, as the teacher did. Ours: it moves five times a step, as
a small one that moves once lags behind: at a rate of 1e-3 SiD diverged so, and with the exact score of the data in
place of a teacher at 5e-4 too; no average of the generator; dmd and diff_instruct at SiD's levels, where the code of
Diff-Instruct draws EDM's log-normal ones. Of the rates 5e-4 and 1e-3 each arm has the one that was better on
validation. Equal updates of the generator: one of SiD passes backwards through both networks, which one of the other
two does not.

`kdjax verify sid`: three minutes on 2 cores. Five seeds, test split, contrary: among generators of this size the plain
direction is as good or better, sid - diff_instruct +0.051 [-0.063, +0.164] of total_variation, sid - dmd +0.129
[+0.041, +0.216] of total_variation, and the correction buys little over the Fisher term, sid - fisher -0.044 [-0.155,
+0.067] of total_variation. After 1500 updates all are far from the teacher, sid - teacher +0.271 [+0.167, +0.376] of
total_variation.
"""

import dataclasses

from kdjax.algorithms.generators import Even, Terms
from kdjax.experiment import Experiment
from kdjax.tasks.mixtures_2d import MatchedPoints
from kdjax.tasks.samplers import heun

BELOW = Even(0.0, 0.8)


@dataclasses.dataclass(frozen=True)
class SiD(MatchedPoints):
    start_sigma: float = 2.5
    batch: int = 128
    steps: int = 1500
    learning_rate: float = 5e-4
    faster: float = 1e-3
    momentum: float = 0.0


def arms(task: SiD):
    terms, teacher = Terms(task.denoiser), task.live_teacher()
    follow = terms.denoising(noising=task.learned_noising)

    def arm(objective, rate=None):
        return task.matched(objective, follow, teacher, terms=terms, moves=task.moves, learning_rate=rate)

    def sid(alpha):
        return terms.score_identity(alpha=alpha, noising=BELOW)

    return {
        'sid': arm(sid(1.2)),
        'sid_1': arm(sid(1.0)),
        'sid_half': arm(sid(0.5)),
        'fisher': arm(sid(0.0), task.faster),
        'diff_instruct': arm(terms.distribution_matching(normaliser='none', noising=BELOW), task.faster),
        'dmd': arm(terms.distribution_matching(noising=BELOW), task.faster),
        'teacher': heun(task, 18),
    }


experiment = Experiment(
    title='SiD: scores matched through both networks',
    systems=(100,),
    config=SiD(),
    arms=arms,
    claims=(
        'sid < diff_instruct on total_variation',
        'sid_1 < diff_instruct on total_variation',
        'sid < dmd on total_variation',
        'sid < fisher on total_variation',
        'sid < teacher + 0.05 on total_variation',
    ),
)
