"""VSD: particles descend what the prior says of their noise less what a score of the particles themselves says.

Wang et al., ProlificDreamer (arXiv 2305.16213), section 3; choices as in the authors' code (nerf/sd.py, nerf/utils.py).
With x_t = a x + s e, e_s the prior guided from null by s = 7.5, and w = s^2:

    sds            w (e_s - e),       t ~ U(.02, .98)       sds_100    the same with s = 100
    vsd            w (e_s - e_phi),   phi one Adam step a step on |e_phi - e|^2 over all t, never guided
    vsd_exact      the same with the exact score of the particles of a class, each .15 wide
    annealed, vsd_annealed, vsd_exact_annealed    t falls from .98 to .02 on a line
    sampled        DDIM in 50 steps from the particles' own noise, guided alike

The prior is exact: ten classes of digits, three modes each (`ExactScenes`). phi is a perceptron added to the prior, so
that it begins as the prior, as the paper's adapters do; the code's default has its error in v, the paper in e; there
are no cameras. All arms make the same number of particle updates; a step of `vsd` costs a forward pass and a training
pass of phi besides the guided prior.

`kdjax verify vsd`: three minutes on 2 cores. One rate of the particles for all arms, 0.1: of .01, .03, .1 and .3 on
validation it serves `annealed` as well as any; nothing else was tuned. Five seeds, test split: six claims of seven
reproduced, vsd - sds -1.30 [-1.43, -1.17] of energy, vsd - sds +0.686 [+0.646, +0.727] of diversity, vsd - sds -0.096
[-0.112, -0.080] of weight_error, and under falling t vsd_annealed - annealed -0.944 [-1.132, -0.756] of energy, for
twelve times the time. Contrary: its pictures are as far too bright as those of sds, vsd - sds +0.043 [+0.039, +0.047]
of norm; only a falling t brings the norm down, to 1.03. Guided by 7.5 even the exact score of the particles does not
help that.
"""

import dataclasses

from kdjax.algorithms.scores import LessFake, annealed
from kdjax.experiment import Experiment
from kdjax.tasks.exact_scenes import ExactScenes


@dataclasses.dataclass(frozen=True)
class VSD(ExactScenes):
    particles: int = 32
    large_scale: float = 100.0


def arms(task: VSD):
    vsd = task.method(direction=LessFake())
    falling = dataclasses.replace(vsd, times=annealed())
    return {
        'sds': task.sds(),
        'sds_100': task.sds(scale=task.large_scale),
        'annealed': task.sds(times=annealed()),
        'vsd': task.with_fake(vsd),
        'vsd_annealed': task.with_fake(falling),
        'vsd_exact': task.distilled(vsd, particles=task.deviation),
        'vsd_exact_annealed': task.distilled(falling, particles=task.deviation),
        'sampled': task.sampled(guidance=task.guidance),
    }


experiment = Experiment(
    title='VSD: the score of the particles in place of the noise',
    systems=(327,),
    config=VSD(),
    arms=arms,
    claims=(
        'vsd < sds on energy',
        'vsd < sds_100 on energy',
        'vsd < sds on norm',
        'vsd < sds on weight_error',
        'vsd > sds on diversity',
        'vsd_exact < sds on energy',
        'vsd_annealed < annealed on energy',
    ),
)
