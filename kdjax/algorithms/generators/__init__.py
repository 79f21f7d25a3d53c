"""Generators that are told by two scores, a teacher's and their own, where to move: objectives on denoisers."""

from kdjax.algorithms.generators.adversary import discrimination as discrimination
from kdjax.algorithms.generators.adversary import divergence_matching as divergence_matching
from kdjax.algorithms.generators.adversary import judge as judge
from kdjax.algorithms.generators.adversary import persuasion as persuasion
from kdjax.algorithms.generators.expectation import Langevin as Langevin
from kdjax.algorithms.generators.expectation import em_distillation as em_distillation
from kdjax.algorithms.generators.few_steps import from_data as from_data
from kdjax.algorithms.generators.few_steps import sampled as sampled
from kdjax.algorithms.generators.few_steps import simulated as simulated
from kdjax.algorithms.generators.matching import denoising as denoising
from kdjax.algorithms.generators.matching import distribution_matching as distribution_matching
from kdjax.algorithms.generators.matching import regression as regression
from kdjax.algorithms.generators.matching import snr as snr
from kdjax.algorithms.generators.noising import EVERYWHERE as EVERYWHERE
from kdjax.algorithms.generators.noising import MIDDLE as MIDDLE
from kdjax.algorithms.generators.noising import Even as Even
from kdjax.algorithms.generators.noising import LogNormal as LogNormal
from kdjax.algorithms.generators.score_identities import score_identity as score_identity
from kdjax.algorithms.generators.score_identities import score_implicit_matching as score_implicit_matching
from kdjax.algorithms.generators.terms import Terms as Terms
