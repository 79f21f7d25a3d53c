"""Tasks `exact scenes`: pictures that a prior teaches whose score is known exactly, many independent runs at once."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import numpy as np
import optax

from kdjax import teachers
from kdjax.algorithms import Player
from kdjax.algorithms.players import Prepare
from kdjax.algorithms.scores import ScoreDistillation, following, noise_share, reads
from kdjax.data.dataset import SPLITS, ArraySource, Dataset, Origin
from kdjax.diffusion import Denoiser, Discrete, Guidance
from kdjax.errors import UserError
from kdjax.models.model import Model, Outputs
from kdjax.models.named_denoiser import named_denoiser
from kdjax.objectives import term
from kdjax.renderers import Pixels, Renderer, named_renderer, stacked, whole
from kdjax.stage import Compute, Train
from kdjax.tasks.exact_measures import measure
from kdjax.tasks.exact_samples import drawn_by_ddim
from kdjax.tasks.flat_scenes import flat_scenes
from kdjax.tasks.scenes import costed_on
from kdjax.tasks.score_arms import ScoreArms
from kdjax.tasks.task import Bound, Task, Trained
from kdjax.tasks.worlds import World, digits_by_style
from kdjax.view import View

SCHEDULE = Discrete.scaled_linear()
"""Stable Diffusion's noise levels, with a thousand steps."""

FREE = 'pixels'

Said = Callable[[View], dict[str, jax.Array]]
"""What is evaluated."""

DRAWS = 8
"""Of a direction, to see how much of it is noise."""


@dataclasses.dataclass(frozen=True)
class ExactScenes(ScoreArms, Task):
    """Digits of `worlds.digits_by_style`, each particle a picture of a class; the prior is the law itself.

    A batch holds every particle once. Half of the particles are for validation, half for the test; all are trained.
    student: `pixels` for free ones, or a renderer as in `renderers.named_renderer`. fake: as in `named_denoiser`.
    particles: of each class. scale: of the guidance, form `from_null`.
    Metrics: `tasks.exact_measures`. The optimizer is Adam, whose rate falls by ten; its b2 is 0.99,
    as gradients fall with the noise and a memory of 1000 steps would hold the last of them back.
    """

    reads: ClassVar[tuple[str, ...]] = ('batch.label', 'batch.particle', 'batch.view')

    student: str = FREE
    teacher: str = 'exact'
    particles: int = 16
    steps: int = 1000
    learning_rate: float = 0.1
    fake: str = 'points-128-3'
    fake_learning_rate: float = 1e-3
    evaluations: int = 4
    scale: float = 7.5
    deviation: float = 0.15

    # What there is.

    @functools.cached_property
    def world(self) -> World:
        return digits_by_style(deviation=self.deviation)

    @property
    def labels(self) -> int:
        """Classes of particles."""
        return self.world.classes

    @property
    def null(self) -> int:
        return self.world.classes

    @property
    def negative(self) -> int:
        """The condition of bad pictures. Raises UserError in a world without one."""
        if self.world.negative is None:
            raise UserError(f'{type(self).__name__} has no negative condition: take ExactScenes')
        return self.world.negative

    @property
    def views(self) -> tuple[int, ...]:
        """From which each particle is measured."""
        return (0,)

    @property
    def views_a_step(self) -> int:
        return 1

    @functools.cached_property
    def data(self) -> Dataset:
        """Rows that say who is looked at: label, particle and view. Raises UserError on fewer than four particles."""
        if self.particles < 4:
            raise UserError(f'{self.particles} particles of a class: two for validation and two for the test, or more')
        half = self.particles // 2
        sides = {'train': range(self.particles), 'validation': range(half), 'test': range(half, self.particles)}
        rows = {
            split: [
                (label, particle, view)
                for particle in sides[split]
                for label in range(self.labels)
                for view in (self.views[:1] * self.views_a_step if split == 'train' else self.views)
            ]
            for split in SPLITS
        }
        columns = ('label', 'particle', 'view')
        splits = {
            s: ArraySource({n: np.asarray(c, np.int32) for n, c in zip(columns, zip(*r, strict=True), strict=True)})
            for s, r in rows.items()
        }
        law = (self.world.means, self.world.weights, self.world.deviations, repr(rows).encode())
        digest = hashlib.sha256(b''.join(a if isinstance(a, bytes) else a.tobytes() for a in law)).hexdigest()
        name = type(self).__name__.lower()
        return Dataset(name=name, splits=splits, identity=digest, origin=Origin('digits', 'BSD-3-Clause', 'made'))

    @property
    def batch_of_all(self) -> int:
        return len(self.data['train'])

    # Models.

    def renderer(self, spec: str) -> Renderer:
        height, width, channels = self.world.shape
        if spec == FREE:
            return Pixels(height, width, channels, scale=0.1)
        made: Any = named_renderer(spec, height=height, width=width)
        black = {'background': 0.0} if hasattr(made, 'background') else {}
        return dataclasses.replace(made, channels=channels, **black)

    def model(self, spec: str) -> Model:
        free = spec == FREE
        return flat_scenes(
            self.renderer(spec), self.cameras(), self.canvas, classes=self.labels, count=self.particles,
            mean=0.0 if free else self.world.mean, deviation=1.0 if free else self.world.deviation,
            beginning=self.beginning(),
        )  # fmt: skip

    def cameras(self) -> Any:
        return stacked([whole()])

    @property
    def canvas(self) -> tuple[int, int]:
        return self.world.shape[:2]

    def beginning(self) -> Callable[..., jax.Array] | None:
        return None

    def example(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        return tuple(jax.ShapeDtypeStruct((1,), np.int32) for _ in range(3))

    def prepared(self) -> Prepare:
        return _as_stored

    def optimizer(self, steps: int | None = None, learning_rate: float | None = None) -> optax.GradientTransformation:
        rate = learning_rate or self.learning_rate
        return optax.adam(optax.exponential_decay(rate, steps or self.steps, 0.1), b2=0.99)

    # Who teaches.

    @property
    def trained_teacher(self) -> Trained:
        raise UserError('nobody is trained here, as the prior is known exactly: take `exact_teacher`')

    def denoiser(self, function: Callable[..., Any]) -> Denoiser:
        """What stands at an address such as `'teacher()'`, not guided."""
        return Denoiser(
            lambda x_t, t, condition: function((x_t, t, condition)).prediction, SCHEDULE, 'data', name='prior'
        )

    @functools.cached_property
    def prior(self) -> Denoiser:
        return self.world.law().denoiser(SCHEDULE, classes=len(self.world.weights) - 1, name='exact prior')

    def exact_teacher(self) -> Bound:
        exact = self.prior
        given = ('student', 'batch.time', 'batch.condition')
        return Bound(teachers.closed_form(lambda inputs: Outputs(exact.raw(*inputs)), reads=given), {})

    # Arms.

    def distilled(self, method: ScoreDistillation | None = None, **addresses: Any) -> Train:
        """An arm whose particles follow a method, for its steps. addresses: of `ScoreDistillation.objective`."""
        method = method or self.method()
        return self.arm(
            self.objective(method, **addresses), self.exact_teacher(), steps=method.steps, batch=self.batch_of_all,
            evaluates=self.evaluated_with(method, **addresses),
        )  # fmt: skip

    def evaluated_with(self, method: ScoreDistillation, **addresses: Any) -> Said:
        """What is evaluated of every arm, and how much of the method's direction is noise in the middle of its run."""
        found, given = reads(method.guidance, self.denoiser, self.null, **self.addresses(), **addresses)

        def said(view: View) -> dict[str, jax.Array]:
            assert view.key is not None
            case, keys = given(*(view[address] for address in found)), jax.random.split(view.key, DRAWS)

            def direction(key: jax.Array) -> jax.Array:
                return method.direction_of(case, key=key, step=method.steps // 2)[0]

            directions = jax.vmap(direction)(keys)
            return self.evaluated()(view) | {'direction_noise': noise_share(directions)}

        return said

    def with_fake(self, method: ScoreDistillation) -> Train:
        """VSD: the particles move, then a fake score that begins as the prior and learns on them, one move each."""
        network = self.fake_network()
        rate = optax.adam(self.fake_learning_rate)
        fake = term(following(self.fake_denoiser), 'student', 'batch.condition', 'fake()', name='denoising')
        fake_score = {'fake': 'fake()', 'fake_denoiser': self.fake_denoiser}
        particles = self.player(self.objective(method, **fake_score), steps=method.steps)
        players = {
            'student': dataclasses.replace(particles, calls={'fake': 1}),
            'fake': Player(network, fake, rate, ('batch.label',), calls={'fake': 3}),
        }
        return self.play(
            players, {'teacher': self.exact_teacher()}, batch=self.batch_of_all, turns='in_order', steps=method.steps,
            evaluates=self.evaluated_with(method, **fake_score),
        )  # fmt: skip

    def fake_network(self) -> Model:
        """A perceptron of the pixels, added to the exact prior's v: at first it is the prior, like an adapter's."""
        shape = self.world.shape
        inner = named_denoiser(self.fake, classes=len(self.world.weights) - 1, shape=(math.prod(shape),))
        prior = self.prior.predicting('v')

        def apply(variables: Any, inputs: Any, *, key: jax.Array, train: bool) -> tuple[Outputs, Any]:
            x_t, t, condition = inputs
            flat = x_t.reshape(len(x_t), -1)
            said, variables = inner.apply(variables, (flat, t, condition), key=key, train=train)
            return Outputs(prior.raw(x_t, t, condition) + said.prediction.reshape(x_t.shape), said.taps), variables

        return Model(inner.init, apply, f'beside_prior({inner.name})', inner.rules)

    def fake_denoiser(self, function: Callable[..., Any]) -> Denoiser:
        """What stands at `'fake()'`."""
        return dataclasses.replace(self.denoiser(function), predicts='v', name='fake')

    def play(self, *args: Any, **options: Any) -> Train:
        """As `Task.play`, and everybody but the particles is counted on what the prior sees."""
        made = super().play(*args, **options)
        return dataclasses.replace(made, cost=costed_on(made.cost, self.denoising_example()))

    def denoising_example(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        shapes = ((1, *self.world.shape), np.float32), ((1,), np.float32), ((1,), np.int32)
        return tuple(jax.ShapeDtypeStruct(*shape) for shape in shapes)

    def evaluated(self) -> Said:
        return _said

    def measure(self) -> Callable[..., dict[str, float]]:
        return functools.partial(measure, self.world)

    def sampled(self, *, steps: int = 50, guidance: Guidance | None = None, name: str = 'sampled') -> Compute:
        """An arm: DDIM from the noise that belongs to each particle. The ceiling, and what the ODE of a seed gives."""
        config = dataclasses.asdict(self) | {'solver_steps': steps, 'guidance': repr(guidance)}
        return Compute(
            name=name, module=type(self).__module__, config=config, data=self.data,
            call=functools.partial(drawn_by_ddim, self, steps, guidance), shapes=lambda inputs: {},
        )  # fmt: skip


def _as_stored(batch: Mapping[str, Any], *, key: jax.Array, train: bool) -> dict[str, Any]:
    del key, train
    return {**batch, 'condition': batch['label']}


def _said(view: View) -> dict[str, jax.Array]:
    return {'picture': view['student'], 'condition': view['batch.condition'], 'particle': view['batch.particle']}
