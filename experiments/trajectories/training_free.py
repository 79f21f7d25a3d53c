"""A sampler without training: a hand-chosen grid that stops while there is noise.

Hyperparameters are all you need: Using five-step inference for an original diffusion model to generate images
comparable to the latest distillation model (arXiv 2510.02390); grids as in its code (TheLovesOfLadyPurple/
Hyperparameters-are-all-you-need, customed_sampler.py). A network is sampled under the betas of Stable Diffusion:

    published_n       times spaced by rho = 1.2 between the noisiest level and the 10th of 12 Karras levels (n = 8,
                      DPM-Solver++(2M), its last step too) or the 7th of 8 (n = 5, DDIM); the state there is the sample
    published_n_data  the same in n - 1 steps, then the data expected there: n evaluations
    even_n            DPM-Solver++(2M) on times that are even in the schedule's own
    karras_n          the same on Karras levels of rho = 7
    tuned_n           the best of n evaluations by the validation split: solver, spacing, end, every time of the grid
    default_20        DPM-Solver++(2M) in 20 even steps

Points of a ring of eight modes, nobody is told the class; the ends of the levels, 0.03 and 14.6, are in units of the
deviation of the data, as there is no decoder that absorbs what noise is left. Seeds change the noise alone.

`kdjax verify training_free`: about three minutes on 2 cores. Five seeds, test split, contrary: eight evaluations at the
published settings are further from the data than twenty even ones, published_8 - default_20 +1.29 [+1.22, +1.36] of
kl_to_data, and as far if the data expected at the end is the sample, published_8_data - default_20 +0.040 [-0.004,
+0.085] of kl_to_data. The grid itself helps, published_8_data - even_8 -1.66 [-1.69, -1.63] of kl_to_data, and settings
chosen for the data on hand help more than any published ones, tuned_8 - published_8_data -0.595 [-0.636, -0.555] of
kl_to_data: eight evaluations, nothing trained, and four times nearer than twenty even ones.
"""

import dataclasses

from kdjax.diffusion import Discrete, DPMSolver
from kdjax.diffusion.times import by_noise
from kdjax.diffusion.tuned import Sampler, published
from kdjax.experiment import Experiment
from kdjax.tasks.mixtures_2d import Mixtures2D
from kdjax.tasks.samplers import best_of, evenly, fixed, sampler_arm


@dataclasses.dataclass(frozen=True)
class TrainingFree(Mixtures2D):
    conditional: bool = False
    teacher_steps: int = 4000
    least: float = 0.03
    most: float = 14.6


def arms(task: TrainingFree):
    schedule = Discrete.scaled_linear()
    ends = task.least * task.sigma_data, task.most * task.sigma_data

    def sampled(about, choose):
        return sampler_arm(task, about, choose, metric='kl_to_data', schedule=schedule)

    def karras(steps):
        return Sampler(DPMSolver(), tuple(float(t) for t in by_noise(schedule, steps)), name=f'karras {steps}')

    made = {'default_20': sampled('even 20', fixed(evenly(DPMSolver(), 20)))}
    for n in (5, 8):
        made |= {
            f'even_{n}': sampled(f'even {n}', fixed(evenly(DPMSolver(), n))),
            f'karras_{n}': sampled(f'karras {n}', fixed(karras(n))),
            f'published_{n}': sampled(f'published {n}', fixed(published(schedule, n, ends=ends))),
            f'published_{n}_data': sampled(
                f'published {n} to data', fixed(published(schedule, n - 1, ends=ends, to_data=True))
            ),
            f'tuned_{n}': sampled(f'the best of {n}', best_of(n)),
        }
    return made


experiment = Experiment(
    title='A sampler tuned without training',
    systems=(197,),
    config=TrainingFree(),
    arms=arms,
    claims=(
        'published_8 < default_20 on kl_to_data',
        'published_8_data < default_20 on kl_to_data',
        'published_8_data < even_8 on kl_to_data',
        'published_5_data < even_5 on kl_to_data',
        'tuned_8 < published_8_data on kl_to_data',
    ),
)
