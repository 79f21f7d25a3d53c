"""A teacher of digits and the students of one step that learn from it, each as one algorithm with an average.

Rates are constant, so that a student can be looked at after any time, and stand in the state, so that one compiled
program serves all of them; what is looked at is the running average of the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax import losses, teachers
from kdjax.algorithms import Algorithm, Player, play
from kdjax.algorithms.consistency_continuous import continuous_consistency, warming
from kdjax.algorithms.generators import Terms
from kdjax.algorithms.trajectory import asking
from kdjax.diffusion.solvers import Heun
from kdjax.objectives import Objective, term
from kdjax.tasks.denoising import DENOISES
from kdjax.tasks.digit_diffusion import DigitDiffusion
from kdjax.tasks.generating import LONGEST
from kdjax.view import View

Said = dict[str, jax.Array]


def teacher(task: DigitDiffusion, options: Mapping[str, Any]) -> Algorithm:
    """A network that learns to denoise; sampled by Heun's steps on n intervals of the ladder, 2 n - 1 passes."""
    network = task.network(task.teacher)
    objective = term(losses.hint_mse, 'student', 'batch.target', name='denoising')
    player = Player(network, objective, adam(), DENOISES)
    average = teachers.ema(network, decay=options['decay'], reads=DENOISES)

    def samples(view: View) -> Said:
        denoiser, prior = task.denoiser(view['average()'], 'teacher'), task.schedule.prior(view['batch.noise'])
        return {
            str(2 * n - 1): Heun(along='noise')(denoiser, prior, jnp.linspace(1.0, 0.0, n + 1), view['batch.label'])
            for n in options['intervals']
        }

    return play(
        {'student': player}, teachers={'average': average, **judge(task)}, prepare=task.prepared(),
        evaluates=judged(samples),
    )  # fmt: skip


def dmd2(task: DigitDiffusion, options: Mapping[str, Any]) -> Algorithm:
    """Distribution matching with a GAN on the features of the fake score (arXiv 2405.14867)."""
    terms = Terms(task.denoiser)
    objective = terms.distribution_matching() + options['gan'] * terms.persuasion()
    return matched(task, objective, terms.denoising() + options['head'] * terms.discrimination(), options)


def sid(task: DigitDiffusion, options: Mapping[str, Any]) -> Algorithm:
    """Scores matched through both networks, from a generator that begins at a lower level (arXiv 2404.04057)."""
    task = dataclasses.replace(task, start_sigma=options['start_sigma'])
    terms = Terms(task.denoiser)
    follow = terms.denoising(noising=task.learned_noising)
    return matched(task, terms.score_identity(alpha=options['alpha']), follow, options)


def scm(task: DigitDiffusion, options: Mapping[str, Any]) -> Algorithm:
    """Continuous consistency along the teacher's path, in TrigFlow (arXiv 2410.11081), tangents as they are."""
    levels = {name: options[name] for name in ('mean', 'deviation')}
    loss = term(
        asking(continuous_consistency, task.denoiser), 'batch.data', 'batch.label', 'student()', 'teacher()', 'warmup',
        normalise=False, **levels,
    )  # fmt: skip
    player = Player(task.network(task.student), loss, adam(), DENOISES, 'start')
    return taught(task, {'student': player}, options, warmup=warming(options['warmup']))


METHODS: dict[str, Callable[..., Algorithm]] = {'dmd2': dmd2, 'sid': sid, 'scm': scm}


def matched(task: DigitDiffusion, objective: Objective, following: Objective, options: Mapping[str, Any]) -> Algorithm:
    """A fake score that moves several times a step, then the generator."""
    optimizer = optax.chain(optax.clip_by_global_norm(LONGEST), adam(options['momentum']))
    players = {
        'fake': Player(task.network(task.teacher), following, optimizer, DENOISES, 'start', moves=options['moves']),
        'student': Player(task.model(task.student), objective, optimizer, task.reads, 'start'),
    }
    return taught(task, players, options)


def taught(
    task: DigitDiffusion, players: Mapping[str, Player], options: Mapping[str, Any], **more: teachers.Teacher
) -> Algorithm:
    """The players beside the frozen teacher; one sample of the student's average is judged for each held-out row."""
    beside = {
        'teacher': teachers.live(task.network(task.teacher), reads=DENOISES),
        'average': teachers.ema(task.model(task.student), decay=options['decay'], reads=task.reads),
        **judge(task), **more,
    }  # fmt: skip
    return play(
        players, teachers=beside, prepare=task.prepared(), turns='in_order',
        evaluates=judged(lambda view: {'1': view['average']}),
    )  # fmt: skip


def adam(momentum: float = 0.9) -> optax.GradientTransformation:
    """Its rate is put into the state by `at_rate`."""
    return optax.inject_hyperparams(optax.adam)(0.0, b1=momentum)


def at_rate(state: Any, rate: float) -> Any:
    """A state whose players all learn at this rate."""
    set_to = optax.tree_utils.tree_set(state['optimizer'], learning_rate=jnp.float32(rate))
    return state | {'optimizer': jax.tree.map(jnp.array, set_to)}


def judge(task: DigitDiffusion) -> dict[str, teachers.Teacher]:
    return {'judge': teachers.live(task.trained_judge.model, weights='judge', reads='batch.data')}


def judged(samples: Callable[[View], Said]) -> Callable[[View], Said]:
    """What the judge sees in samples: last features and logits, by the name of the samples."""

    def said(view: View) -> Said:
        looks = {name: view['judge()'](x.astype(jnp.float32)) for name, x in samples(view).items()}
        return {f'features_{name}': look.taps['pooled'] for name, look in looks.items()} | {
            f'logits_{name}': look.prediction for name, look in looks.items()
        }

    return said
