"""Objectives of a generator and of those who play with it, on the outputs of a step.

    terms = Terms(task.denoiser)
    generator, follower = terms.distribution_matching(), terms.denoising()

The generator is the player `student`, its follower the player `fake`, the teacher `teacher`; networks are read as
functions. `calls` counts what the objectives ask of whom, for the cost table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax

from kdjax.algorithms.generators import adversary, expectation, matching, score_identities
from kdjax.diffusion.denoiser import Denoiser
from kdjax.models import heads
from kdjax.objectives import Objective, Part, learned, term
from kdjax.streams import stream
from kdjax.view import Function

HEAD = Part('head', partial(heads.mlp_projector, features=1), reads=('fake.bottleneck',))
"""A judge's head: one logit for each place of the follower's bottleneck."""

CALLS: dict[str, dict[str, int]] = {
    'denoising': {'fake': 3},
    'discrimination': {'fake': 6},
    'distribution_matching': {'teacher': 1, 'fake': 1},
    'divergence_matching': {'teacher': 1, 'fake': 1},
    'persuasion': {'fake': 2},
    'regression': {'teacher': matching.PAIR_STEPS},
    'score_identity': {'teacher': 2, 'fake': 2},
    'score_implicit_matching': {'teacher': 2, 'fake': 2},
}
"""Passes of each network per example, of the term of this name."""


@dataclasses.dataclass(frozen=True)
class Terms:
    """Objectives for one kind of network.

    denoiser: `(function, name) -> Denoiser`: what the networks of a task mean.
    made: `(*values, key=) -> x`, the samples made of what stands at `reads`; all terms of a move share those of
        `student`, which are not made twice.
    making: passes of `student` per example and term where `made` calls it, with the gradient and without.
    """

    denoiser: Callable[[Function, str], Denoiser]
    reads: tuple[str, ...] = ('student',)
    made: Callable[..., jax.Array] | None = None
    making: tuple[int, int] = (0, 0)

    # Of the generator.

    def distribution_matching(self, **options: Any) -> Objective:
        """See `matching.distribution_matching`."""
        return self._matched(matching.distribution_matching, options)

    def score_identity(self, **options: Any) -> Objective:
        """See `score_identities.score_identity`."""
        return self._matched(score_identities.score_identity, options)

    def score_implicit_matching(self, **options: Any) -> Objective:
        """See `score_identities.score_implicit_matching`."""
        return self._matched(score_identities.score_implicit_matching, options)

    def divergence_matching(self, **options: Any) -> Objective:
        """See `adversary.divergence_matching`; the follower has to learn `discrimination`."""

        def loss(condition, teacher, fake, head, *values, key):
            networks = self.denoiser(teacher, 'teacher'), self.denoiser(fake, 'fake'), adversary.judge(fake, head)
            return adversary.divergence_matching(self._x(values, key), condition, *networks, key=key, **options)

        return term(loss, 'batch.label', 'teacher()', 'fake()', 'head()', *self.reads, name='divergence_matching')

    def persuasion(self, **options: Any) -> Objective:
        """See `adversary.persuasion`; the follower has to learn `discrimination`."""

        def loss(condition, fake, head, *values, key):
            judge, schedule = adversary.judge(fake, head), self.denoiser(fake, 'fake').schedule
            return adversary.persuasion(self._x(values, key), condition, judge, schedule, key=key, **options)

        return term(loss, 'batch.label', 'fake()', 'head()', *self.reads, name='persuasion')

    def regression(self) -> Objective:
        """See `matching.regression`."""

        def loss(condition, teacher, prior, *values, key):
            real = self.denoiser(teacher, 'teacher')
            return matching.regression(self._x(values, key), prior, condition, real)

        return term(loss, 'batch.label', 'teacher()', 'batch.prior', *self.reads, name='regression')

    def em_distillation(self, **options: Any) -> Objective:
        """See `expectation.em_distillation`; latents are `batch.noise`, the generator starts at `batch.start`."""

        def loss(condition, teacher, fake, student, noise, start, *, key):
            real, follower = self.denoiser(teacher, 'teacher'), self.denoiser(fake, 'fake')
            schedule = real.schedule

            def generator(latent: jax.Array) -> jax.Array:
                return student((schedule.noised(0 * latent, latent, start), start, condition)).prediction

            return expectation.em_distillation(generator, noise, condition, real, follower, key=key, **options)

        given = 'batch.label', 'teacher()', 'fake()', 'student()', 'batch.noise', 'batch.start'
        return term(loss, *given, name='em_distillation')

    # Of those who follow it.

    def denoising(self, **options: Any) -> Objective:
        """See `matching.denoising`."""

        def loss(condition, fake, *values, key):
            return matching.denoising(self._x(values, key), condition, self.denoiser(fake, 'fake'), key=key, **options)

        return term(loss, 'batch.label', 'fake()', *self.reads, name='denoising')

    def discrimination(self, **options: Any) -> Objective:
        """See `adversary.discrimination`; brings the head along. Real examples are `batch.data`."""

        def loss(condition, fake, head, data, *values, key):
            judge, schedule = adversary.judge(fake, head), self.denoiser(fake, 'fake').schedule
            x = self._x(values, key)
            return adversary.discrimination(x, data, condition, judge, schedule, key=key, **options)

        given = 'batch.label', 'fake()', 'head()', 'batch.data', *self.reads
        return learned(HEAD) + term(loss, *given, name='discrimination')

    # Both.

    def calls(self, objective: Objective, *, own: bool = False, langevin: int = 0) -> Mapping[str, int]:
        """Passes of each network per example and move. own: of the generator; langevin: steps of `em_distillation`."""
        found: dict[str, int] = {}
        making = {'student': self.making[0 if own else 1]} if self.made else {}
        chain = {'student': 2 * langevin + 4, 'teacher': langevin, 'fake': langevin}
        for each in objective.terms:
            for name, passes in (chain if each.name == 'em_distillation' else CALLS[each.name] | making).items():
                found[name] = found.get(name, 0) + passes
        return found

    def _matched(self, loss_of: Callable[..., jax.Array], options: Mapping[str, Any]) -> Objective:
        def loss(condition, teacher, fake, *values, key):
            networks = self.denoiser(teacher, 'teacher'), self.denoiser(fake, 'fake')
            return loss_of(self._x(values, key), condition, *networks, key=key, **options)

        return term(loss, 'batch.label', 'teacher()', 'fake()', *self.reads, name=loss_of.__name__)

    def _x(self, values: tuple[Any, ...], key: jax.Array) -> jax.Array:
        return values[0] if self.made is None else self.made(*values, key=stream(key, 'made'))
