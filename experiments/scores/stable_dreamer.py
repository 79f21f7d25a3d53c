"""StableDreamer: SDS is a regression onto the denoised picture, and its largest noise level should fall.

After Guo et al., StableDreamer (arXiv 2312.02189), whose abstract was read; no code is released, and the ends of the
schedule are ours. With x_t = a x + s e, e_s the prior guided from null by s = 7.5, and x_hat = (x_t - s e_s) / a:

    sds          s^2 (e_s - e) = s a (x - x_hat),   t ~ U(.02, .98)
    regression   x - x_hat, that is weight s / a: 1/2 |x - sg(x_hat)|^2 as it stands
    narrowed     sds with t ~ U(.02, h), h falling from .98 to .5
    narrowest    the same down to .1
    annealed     sds with one t, from .98 to .02

Particles are 32 flat Gaussian splats each; the prior is exact: ten classes of digits, three modes each
(`ExactScenes`). The identity itself is a test. The paper's two priors, of images and of latents, are not compared.
All arms make the same steps at the same cost.

Not verified yet.
"""

import dataclasses

from kdjax.algorithms.scores import annealed, narrowed
from kdjax.experiment import Experiment
from kdjax.tasks.exact_scenes import ExactScenes


@dataclasses.dataclass(frozen=True)
class StableDreamer(ExactScenes):
    student: str = 'splats2d-32'


def arms(task: StableDreamer):
    return {
        'sds': task.sds(),
        'regression': task.sds(weight='data'),
        'narrowed': task.sds(times=narrowed(to=0.5)),
        'narrowest': task.sds(times=narrowed(to=0.1)),
        'annealed': task.sds(times=annealed()),
    }


experiment = Experiment(
    title='StableDreamer: noise levels that fall',
    systems=(148,),
    config=StableDreamer(),
    arms=arms,
    claims=(
        'narrowed > sds on log_density',
        'narrowest > sds on log_density',
        'annealed > sds on log_density',
        'narrowed < sds on to_mode',
        'narrowed < sds on energy',
        'narrowest > annealed on log_density',
    ),
)
