"""Task `mixtures 2-D`: generators of points whose law, score and modes are known exactly."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses, teachers
from kdjax.data.mixtures import Mixtures, mixtures
from kdjax.diffusion.analytic import Mixture, isotropic
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.solvers import Heun
from kdjax.metrics.feature_sets import distances
from kdjax.metrics.histogram import histogram_divergences
from kdjax.metrics.modes import mode_metrics, mode_weights
from kdjax.models.model import Outputs
from kdjax.objectives import term
from kdjax.stage import Output
from kdjax.tasks.followers import followed, follower_health, judged, mean_gap
from kdjax.tasks.generating import DENOISES, PREDICTS, Generating
from kdjax.tasks.task import Bound
from kdjax.view import View

REACH = 3.0
"""Deviations from the nearest component within which a sample is in a mode."""

STEPS = 16
"""Of the ODE, two evaluations each, for the samples that a student begins with."""


@dataclasses.dataclass(frozen=True)
class Mixtures2D(Generating):
    """Points of `ring8`, `moons` or `checkerboard` (`kdjax.data.mixtures`); a class is a mode.

    Measured of one sample for each held-out row, of the row's class:

        kl_to_data, kl_from_data, total_variation    on a grid of bins x bins cells, whose true probabilities are exact;
                                                     the bias of each is in `metrics.histogram`
        modes, in_modes, weight_error                see `metrics.modes`
        class_accuracy                               samples whose nearest component is of the class asked for, in 0..1
        fake_error, gap_to_teacher, direction_cosine where a player `fake` follows the student, see `metrics.followed`
        discriminator_gap                            where a `head` tells samples from data, see `tasks.followers`

    tilt: the last mode weighs this many times the first.
    """

    dataset: str = 'ring8'
    tilt: float = 1.0
    rows: int = 20_000
    evaluation_rows: int = 8_000
    bins: int = 40
    student: str = 'points-128-3'
    teacher: str = 'points-128-3'

    @functools.cached_property
    def data(self) -> Mixtures:
        return mixtures(self.dataset, rows=self.rows, evaluation_rows=self.evaluation_rows, tilt=self.tilt)

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    @property
    def classes(self) -> int:
        return self.data.classes

    @property
    def sigma_data(self) -> float:
        return self.data.spread

    def scaled(self, batch: Mapping[str, Any]) -> jax.Array:
        return jnp.asarray(batch['point'], jnp.float32)

    @functools.cached_property
    def law(self) -> Mixture:
        """The law of the data, whose score is known at every level of noise."""
        law = self.data
        return isotropic(law.means, law.deviation, weights=law.weights, component_classes=law.mode)

    def exact_denoiser(self) -> Denoiser:
        """The best teacher there is, with the raw outputs of the trained one."""
        return self.law.denoiser(self.schedule, 'exact').predicting(PREDICTS, self.sigma_data)

    def exact_teacher(self) -> Bound:
        """The exact denoiser as a teacher, called as `'teacher()'` with `(x_t, t, class)`; it costs no network."""
        exact = self.exact_denoiser()
        return Bound(teachers.closed_form(lambda inputs: Outputs(exact.raw(*inputs)), reads=DENOISES), {})

    def evaluated(self) -> Callable[[View], dict[str, jax.Array]]:
        plain = super().evaluated()

        def said(view: View) -> dict[str, jax.Array]:
            made = plain(view)
            return made | followed(self, view, made['sample']) | judged(self, view, made['sample'])

        return said

    def measure(self) -> Callable[..., dict[str, float]]:
        def measured(said: Mapping[str, np.ndarray], reference: Any = None) -> dict[str, float]:
            found = measure(self.data, self.bins, said, reference, conditional=self.conditional)
            return found | follower_health(said, self.schedule, conditional=self.conditional) | mean_gap(said)

        return measured

    # Generators to begin with.

    def missing(self, *lost: int, steps: int = 500) -> Output:
        """A student's weights that know all modes but these; the noise of each sample is kept in its sample.

        It learns the map of the probability-flow ODE of what is left, which is known exactly.
        """
        law = self.data
        kept = ~np.isin(law.mode, lost)
        rest = isotropic(law.means[kept], law.deviation, weights=law.weights[kept]).denoiser(self.schedule, 'rest')
        times = jnp.linspace(float(self.schedule.time_of_sigma(self.start_sigma)), 0.0, STEPS + 1)
        teacher = teachers.closed_form(
            lambda inputs: Outputs(Heun(along='noise')(rest, inputs[0], times)), reads=self.reads
        )
        name = '-'.join(('missing', *map(str, lost)))
        objective = term(losses.hint_mse, 'student', 'teacher')
        start = self.trained_teacher.variables
        return self.arm(objective, Bound(teacher, {}), steps=steps, start=start, name=name)['variables']['student']


@dataclasses.dataclass(frozen=True)
class MatchedPoints(Mixtures2D):
    """What experiments on matching distributions share: small networks that are told no class.

    moves: of the fake score in a step.
    """

    student: str = 'points-64-3'
    teacher: str = 'points-64-3'
    conditional: bool = False
    batch: int = 256
    moves: int = 5


def measure(
    law: Mixtures, bins: int, said: Mapping[str, np.ndarray], reference: Any = None, *, conditional: bool = True
) -> dict[str, float]:
    """Metrics of the samples `sample` `[rows, 2]`, if `conditional` also beside the classes asked for, `label`."""
    del reference
    made, corner = np.asarray(said['sample'], np.float64), law.extent
    found = mode_weights(made, law.means, law.mode, reach=REACH * law.deviation)
    measured = {
        **histogram_divergences(made, law.cells(bins), low=(-corner, -corner), high=(corner, corner)),
        **mode_metrics(found, law.mode_weights),
    }
    if not conditional:
        return measured
    nearest = law.mode[distances(made, law.means).argmin(axis=1)]
    return measured | {'class_accuracy': float(np.mean(nearest == said['label']))}
