"""Score distillation: pictures that follow a direction which a frozen score network gives."""

from kdjax.algorithms.scores.directions import ClassifierOnly as ClassifierOnly
from kdjax.algorithms.scores.directions import LessBefore as LessBefore
from kdjax.algorithms.scores.directions import LessFake as LessFake
from kdjax.algorithms.scores.directions import LessNext as LessNext
from kdjax.algorithms.scores.directions import LessNoise as LessNoise
from kdjax.algorithms.scores.directions import LessNothing as LessNothing
from kdjax.algorithms.scores.directions import LessSource as LessSource
from kdjax.algorithms.scores.directions import Posterior as Posterior
from kdjax.algorithms.scores.distillation import ScoreDistillation as ScoreDistillation
from kdjax.algorithms.scores.distillation import noise_share as noise_share
from kdjax.algorithms.scores.distillation import reads as reads
from kdjax.algorithms.scores.fake import denoising as denoising
from kdjax.algorithms.scores.fake import following as following
from kdjax.algorithms.scores.fake import of_particles as of_particles
from kdjax.algorithms.scores.given import Given as Given
from kdjax.algorithms.scores.noises import Drawn as Drawn
from kdjax.algorithms.scores.noises import FromSeed as FromSeed
from kdjax.algorithms.scores.noises import Inverted as Inverted
from kdjax.algorithms.scores.times import Times as Times
from kdjax.algorithms.scores.times import annealed as annealed
from kdjax.algorithms.scores.times import narrowed as narrowed
from kdjax.algorithms.scores.times import uniform as uniform
