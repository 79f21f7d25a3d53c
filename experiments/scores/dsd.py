"""DSD: every particle follows the path that DDIM takes from a seed of its own, so that particles differ.

Xu et al., Diverse Score Distillation; choices as in the released code (compute_grad_dsd). With n the particle's noise
for ever, e_s the prior guided from null by s = 7.5, t falling from .98 to .32 by a square root, t' = t + .1 u (t - .32)
and u ~ U(0, 1):

    dsd        e_s(x_t, t) - e_1(x_t', t'),   x_t = a x + s k at both times,   k = e_s at t' on the path of ten steps
               of DDIM from n;   weight s^2
    dsd_four   a path of four steps                  dsd_path    e_s(x_t, t) - k: the path's own noise
    fixed      e_s - n,  weight s / a (the ODE)      sdi         k by inversion (experiment `sdi`)
    sds        e_s - e,  weight s^2,  t ~ U(.02, .98)            annealed    the same, t falling from .98 to .02
    sampled    DDIM in 50 steps from n, guided alike

The prior is exact: ten classes of digits, three modes each (`ExactScenes`). A step of `dsd` asks the prior thirteen
times, which `annealed_long` does in thirteen steps. Followed exactly, DSD is DDIM: a test.

`kdjax verify dsd`: three minutes on 2 cores. One rate of the particles for all arms, 0.1: of .01, .03, .1 and .3 on
validation it serves `annealed` as well as any; nothing else was tuned. Five seeds, test split: dsd - annealed -0.235
[-0.292, -0.178] of weight_error, dsd - sds -4.30 [-4.53, -4.07] of energy and dsd - sds +0.197 [+0.117, +0.277] of
diversity reproduced. Inconclusive: dsd - fixed +0.0100 [-0.0544, +0.0744] of weight_error: noise that is drawn once for
each particle finds the modes as well, at a quarter of the cost.
"""

import dataclasses

from kdjax.algorithms.scores import Drawn, FromSeed, Inverted, LessBefore, LessNoise, annealed
from kdjax.experiment import Experiment
from kdjax.tasks.exact_scenes import ExactScenes


@dataclasses.dataclass(frozen=True)
class DSD(ExactScenes):
    path_steps: int = 10
    last: float = 0.32


def arms(task: DSD):
    times, own = annealed(0.98, task.last, power=0.5), 'student.noise'
    dsd = task.method(times=times, noise=FromSeed(task.path_steps), direction=LessBefore())
    return {
        'sds': task.sds(),
        'annealed': task.sds(times=annealed()),
        'annealed_long': task.sds(times=annealed(), steps=(task.path_steps + 3) * task.steps),
        'fixed': task.distilled(task.method(times=annealed(), noise=Drawn(0), weight='data'), own=own),
        'sdi': task.distilled(task.method(times=annealed(), noise=Inverted(), weight='data')),
        'dsd': task.distilled(dsd, own=own),
        'dsd_four': task.distilled(dataclasses.replace(dsd, noise=FromSeed(4)), own=own),
        'dsd_path': task.distilled(dataclasses.replace(dsd, direction=LessNoise()), own=own),
        'sampled': task.sampled(guidance=task.guidance),
    }


experiment = Experiment(
    title='DSD: a path from a seed for every particle',
    systems=(136,),
    config=DSD(),
    arms=arms,
    claims=(
        'dsd > sds on diversity',
        'dsd < sds on weight_error',
        'dsd < annealed on weight_error',
        'dsd < annealed_long on weight_error',
        'dsd < fixed on weight_error',
        'dsd < sds on energy',
        'dsd > sampled - 0.1 on log_density',
    ),
)
