"""Diffusion: schedules, what networks predict, guidance, denoisers, solvers and scores that are known exactly.

Time runs from data (t = 0) to noise (t = 1), and x_t = alpha(t) x + sigma(t) noise.
"""

from .analytic import Mixture, Noised, full, gaussian, isotropic
from .checks import finite, labels_in_range, over
from .denoiser import Denoiser, preconditioned, tangent
from .guidance import Guidance
from .linear import LinearGenerator, gaussian_fisher, gaussian_kl
from .parametrisation import PREDICTIONS, Preconditioning, Prediction, carried, convert, preconditioning, weights
from .schedules import Cosine, Discrete, Flow, Karras, Linear, Schedule, TrigFlow
from .solvers import DDIM, Churn, DPMSolver, Euler, Heun, Renoise
from .solving import Solver

__all__ = [
    'DDIM',
    'PREDICTIONS',
    'Churn',
    'Cosine',
    'DPMSolver',
    'Denoiser',
    'Discrete',
    'Euler',
    'Flow',
    'Guidance',
    'Heun',
    'Karras',
    'Linear',
    'LinearGenerator',
    'Mixture',
    'Noised',
    'Preconditioning',
    'Prediction',
    'Renoise',
    'Schedule',
    'Solver',
    'TrigFlow',
    'carried',
    'convert',
    'finite',
    'full',
    'gaussian',
    'gaussian_fisher',
    'gaussian_kl',
    'isotropic',
    'labels_in_range',
    'over',
    'preconditioned',
    'preconditioning',
    'tangent',
    'weights',
]
