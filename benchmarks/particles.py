"""VSD of 16 particles as one program against 16 runs of one particle, on this machine: seconds a step.

Particles are voxel scenes of 16x16 pixels; teacher and fake score are small DiTs with random weights, the teacher
guided as in ProlificDreamer (from_null, 7.5). A step moves every particle once, then the fake score once on their
renders. One program has one fake score for all particles, as the method has; each run of one particle has its own.
The ratio is one program / all runs, without compilation.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from timing import Contestant, arguments, conclude, interleaved, ratio, timed

from kdjax import teachers
from kdjax.algorithms import Player, play
from kdjax.algorithms.scores import LessFake, ScoreDistillation, following
from kdjax.diffusion import Cosine, Denoiser, Guidance
from kdjax.models.model import Model
from kdjax.models.named_denoiser import named_denoiser
from kdjax.objectives import term
from kdjax.renderers import named_renderer
from kdjax.tasks.scenes import scenes

SEED, CLASSES, SCALE, LEARNING_RATE, STEPS = 0, 4, 7.5, 1e-3, 1000
FULL = {'particles': 16, 'size': 16, 'renderer': 'voxels-12', 'network': 'dit-96-4-p4', 'steps': 5}
SMOKE = {'particles': 2, 'size': 8, 'renderer': 'splats3d-2', 'network': 'dit-8-1-p4-h2', 'steps': 1}
GOALS = {'particles': '<= 0.7'}
SCHEDULE = Cosine()


def denoiser(function: Any) -> Denoiser:
    return Denoiser(lambda x_t, t, c: function((x_t, t, c)).prediction, SCHEDULE, 'v', classes=CLASSES)


def contestant(case: dict[str, Any], particles: int) -> Contestant:
    """A step of so many particles."""
    network = named_denoiser(case['network'], classes=CLASSES, shape=(case['size'], case['size'], 3))
    rows = jnp.arange(particles, dtype=jnp.int32)
    angle = 0.5 * jnp.arange(particles, dtype=jnp.float32)
    batch = {
        'label': 0 * rows, 'particle': rows, 'azimuth': angle, 'elevation': 0 * angle + 0.3, 'condition': rows % CLASSES
    }  # fmt: skip
    step, held, frozen = started(scene_model(case, particles), network, batch)
    key = jax.random.key(SEED)

    def once() -> None:
        held[0], metrics = step(held[0], frozen, batch, key)
        jax.block_until_ready((held[0], metrics))

    return timed(once)


def started(model: Model, network: Model, batch: dict[str, jax.Array]) -> tuple[Any, list[Any], dict[str, Any]]:
    """The compiled step, the state it begins from, and the frozen teacher."""
    vsd = ScoreDistillation(Guidance(SCALE, 'from_null'), STEPS, direction=LessFake())
    denoising = term(following(denoiser), 'student', 'batch.condition', 'fake()')
    players = {
        'student': Player(
            model, vsd.objective(denoiser, CLASSES, condition='batch.condition', fake='fake()'),
            optax.adam(LEARNING_RATE), ('batch.label', 'batch.particle', 'batch.azimuth', 'batch.elevation'),
        ),
        'fake': Player(network, denoising, optax.adam(LEARNING_RATE), ('batch.label',)),
    }  # fmt: skip
    algorithm = play(players, teachers={'teacher': teachers.live(network)}, turns='in_order')
    key = jax.random.key(SEED)
    frozen = {'teacher': jax.jit(lambda key: network.init(key, None))(key)}
    held = [jax.jit(algorithm.init)(key, frozen, batch)]
    step = jax.jit(algorithm.step, donate_argnums=0).lower(held[0], frozen, batch, key).compile()
    return step, held, frozen


def scene_model(case: dict[str, Any], particles: int) -> Model:
    renderer = named_renderer(case['renderer'], height=case['size'], width=case['size'])
    return scenes(renderer, classes=1, count=particles, distance=3.0, field_of_view=0.66)


def main() -> None:
    options = arguments(__doc__, repeats=7)
    case = SMOKE if options.smoke else FULL
    together, alone = contestant(case, case['particles']), contestant(case, 1)
    contestants = {
        'one program': together,
        'one after the other': lambda steps: alone(steps * case['particles']),
    }
    seconds = interleaved(contestants, steps=case['steps'], repeats=options.repeats)
    conclude(
        'particles',
        ratios={'particles': ratio(seconds['one program'], seconds['one after the other'])},
        goals=GOALS,
    )


if __name__ == '__main__':
    main()
