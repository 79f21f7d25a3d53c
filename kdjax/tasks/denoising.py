"""What tasks of generators share with their teachers: real examples with classes, noise, networks that denoise them."""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses
from kdjax.algorithms import Player, play
from kdjax.algorithms.generators import LogNormal
from kdjax.algorithms.players import Prepare
from kdjax.diffusion.checks import over
from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.parametrisation import convert, weights
from kdjax.diffusion.schedules import Karras
from kdjax.models.model import Model, Outputs
from kdjax.models.named_denoiser import named_denoiser
from kdjax.objectives import term
from kdjax.stage import Train
from kdjax.streams import stream
from kdjax.tasks.task import Task, Trained, cost
from kdjax.view import View

PREDICTS = 'edm'
"""What the raw output of every network of these tasks is (arXiv 2206.00364, table 1)."""

HELD_OUT = ('validation', 'test')
DENOISES = ('batch.noised', 'batch.time', 'batch.condition')
"""What a network that learns to denoise reads."""


@dataclasses.dataclass(frozen=True)
class Denoising(Task):
    """Data with classes, and a diffusion teacher of them.

    The player `student` is a generator: inputs `(x_t, t, class)`, prediction a sample; in one step from noise it is the
    data prediction of its network at `start_sigma`, so that it can begin with the teacher's weights. A batch holds

        data, label      real examples, scaled as networks see them, and their classes
        noise            standard normal, of the shape of the data; in evaluation fixed by the row
        prior, start     start_sigma noise, and its time
        other            other noise, of the same shape
        time, noised     a time of the teacher's distribution, and the other noise added to the data at it
        condition        the class, or in training the null class with probability `drop`
        target           the raw output that is right there: F of EDM, whose unweighted error is EDM's loss

    conditional: whether anybody is told the class; without it `label` and `condition` are the null class, and nobody is
        measured by the class asked for.
    momentum: Adam's first beta, of the players of `matched`; SiD takes 0.
    sigma_min, sigma_max: of the schedule, a Karras ladder. Times: ln sigma ~ N(-1.2 + ln(2 sigma_data), 1.2^2)
    (arXiv 2206.00364, table 1, where sigma_data is 0.5).
    """

    reads: ClassVar[tuple[str, ...]] = ('batch.prior', 'batch.start', 'batch.label')

    batch: int = 128
    steps: int = 1000
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    teacher_steps: int = 4000
    teacher_learning_rate: float = 2e-3
    evaluations: int = 4
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    start_sigma: float = 80.0
    drop: float = 0.1
    conditional: bool = True
    momentum: float = 0.9

    # What a task says of its field.

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one example."""

    @property
    @abc.abstractmethod
    def classes(self) -> int:
        """How many; the null class is this number."""

    @property
    @abc.abstractmethod
    def sigma_data(self) -> float:
        """The standard deviation of the scaled data."""

    @abc.abstractmethod
    def scaled(self, batch: Mapping[str, Any]) -> jax.Array:
        """The real examples of a stored batch as networks see them, float32."""

    # Networks.

    @functools.cached_property
    def schedule(self) -> Karras:
        return Karras(self.sigma_min, self.sigma_max)

    def network(self, spec: str, *, times: int = 1) -> Model:
        """A network that denoises, by name: inputs `(x_t, t, class)`, prediction the raw output. It sees x_t / rms."""
        return self.seen_scaled(named_denoiser(spec, classes=self.classes, shape=self.shape, times=times))

    def seen_scaled(self, inner: Model) -> Model:
        """Any network of `(x_t / rms, t, condition)` as one of `(x_t, t, condition)`."""

        def seen(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            x, t, condition = inputs
            alpha, sigma = self.schedule.levels(_first(t))
            return x / over(jnp.hypot(alpha * self.sigma_data, sigma), x), t, condition

        return _around(inner, 'scaled', before=seen)

    def model(self, spec: str) -> Model:
        """A generator on the variables of `network(spec)`: its prediction is the data expected."""

        def data(raw: jax.Array, inputs: tuple[Any, ...]) -> jax.Array:
            alpha, sigma = self.schedule.levels(_first(inputs[1]))
            return convert(raw, inputs[0], PREDICTS, 'data', alpha=alpha, sigma=sigma, sigma_data=self.sigma_data)

        return _around(self.network(spec), 'data', after=data)

    def example(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        return (
            jax.ShapeDtypeStruct((1, *self.shape), np.float32),
            jax.ShapeDtypeStruct((1,), np.float32),
            jax.ShapeDtypeStruct((1,), np.int32),
        )

    def denoiser(self, function: Callable[[Any], Outputs], name: str) -> Denoiser:
        """A network as a function of `(x_t, t, class)`, the address `'teacher()'` say, as a denoiser."""
        return Denoiser(
            lambda x, t, condition: function((x, t, condition)).prediction, self.schedule, PREDICTS,
            sigma_data=self.sigma_data, classes=self.classes, name=name,
        )  # fmt: skip

    def teacher_denoiser(self, variables: Any, trained: Trained | None = None) -> Denoiser:
        """The teacher with these variables, read from its stage."""
        model, key = (trained or self.trained_teacher).model, jax.random.key(0)
        return self.denoiser(lambda inputs: model.apply(variables, inputs, key=key, train=False)[0], 'teacher')

    # Batches.

    def prepared(self) -> Prepare:
        return self._prepare

    def _prepare(self, batch: Mapping[str, Any], *, key: jax.Array, train: bool) -> dict[str, Any]:
        data, label = self.scaled(batch), jnp.asarray(batch['label'], jnp.int32)
        label = label if self.conditional else jnp.full_like(label, self.classes)
        rows = None if train else jnp.asarray(batch['index'])
        noise, other = (_normal(stream(key, name), data.shape, rows) for name in ('noise', 'denoise'))
        time = self._times(_normal(stream(key, 'time'), label.shape, rows))
        noised, target = self._noisy(data, other, time)
        start = jnp.full(label.shape, self.schedule.time_of_sigma(self.start_sigma), jnp.float32)
        dropped = jax.random.bernoulli(stream(key, 'drop'), self.drop if train else 0.0, label.shape)
        return {
            **batch,
            'data': data,
            'label': label,
            'noise': noise,
            'prior': self.start_sigma * noise,
            'start': start,
            'other': other,
            'time': time,
            'noised': noised,
            'condition': jnp.where(dropped, self.classes, label),
            'target': target,
        }

    def _noisy(self, data: jax.Array, noise: jax.Array, time: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x_t, and the raw output that is right there."""
        right = weights(PREDICTS, *self.schedule.levels(time), self.sigma_data)
        target = over(right.data, data) * data + over(right.noise, data) * noise
        return self.schedule.noised(data, noise, time), target

    def _times(self, normal: jax.Array) -> jax.Array:
        law = self.learned_noising
        return self.schedule.time_of(-2.0 * (law.mean + law.deviation * normal))

    @functools.cached_property
    def learned_noising(self) -> LogNormal:
        """How the teacher's examples were noised."""
        return LogNormal(-1.2 + math.log(2 * self.sigma_data), 1.2)

    # The teacher.

    @functools.cached_property
    def trained_teacher(self) -> Trained:
        """A network that has learned to denoise the real examples, trained once and shared."""
        return self.train_denoiser('teacher', self.teacher)

    def train_denoiser(self, name: str, spec: str) -> Trained:
        """Any network, trained like the teacher; one for all seeds of a verification."""
        model, steps = self.network(spec), self.teacher_steps
        optimizer = self.optimizer(steps, self.teacher_learning_rate)
        player = Player(model, term(losses.hint_mse, 'student', 'batch.target', name='denoising'), optimizer, DENOISES)
        stage = Train(
            name=name, module=__name__, config=self._teaching() | {'model': model.name}, shared=True,
            algorithm=play({'student': player}, prepare=self._prepare, evaluates=_errors), data=self.data,
            batch=self.batch, steps=steps, evaluate_every=max(1, steps // 4), measure=_denoising,
            cost=functools.partial(cost, {'student': player}, {}, self.example(), self.batch * steps),
        )  # fmt: skip
        return Trained(model, stage['variables']['student'])

    def _teaching(self) -> dict[str, Any]:
        """All that a teacher depends on besides data, batch and steps."""
        told = ('teacher_learning_rate', 'weight_decay', 'sigma_min', 'sigma_max', 'drop', 'conditional')
        return {name: getattr(self, name) for name in told} | {'sigma_data': self.sigma_data}


def _around(
    model: Model,
    name: str,
    *,
    before: Callable[[Any], Any] = lambda inputs: inputs,
    after: Callable[[jax.Array, Any], jax.Array] = lambda raw, inputs: raw,
) -> Model:
    """The model on the same variables, its inputs and its prediction changed."""

    def apply(variables: Any, inputs: Any, *, key: jax.Array, train: bool) -> tuple[Outputs, Any]:
        outputs, variables = model.apply(variables, before(inputs), key=key, train=train)
        return Outputs(after(outputs.prediction, inputs), outputs.taps), variables

    def under(**changes: Any) -> Model:
        assert model.under is not None, 'every diffusion network can be computed in other ways'
        return _around(model.under(**changes), name, before=before, after=after)

    return Model(model.init, apply, f'{name}({model.name})', model.rules, under)


def _first(t: Any) -> jax.Array:
    return t[0] if isinstance(t, tuple) else t


def _normal(key: jax.Array, shape: tuple[int, ...], rows: jax.Array | None) -> jax.Array:
    """Standard normal; with `rows` each row's own draw, whatever batch it is in."""
    if rows is None:
        return jax.random.normal(key, shape, jnp.float32)
    return jax.vmap(lambda row: jax.random.normal(jax.random.fold_in(key, row), shape[1:], jnp.float32))(rows)


def _errors(view: View) -> dict[str, jax.Array]:
    return {'error': losses.hint_mse(view['student'], view['batch.target'])}


def _denoising(said: Mapping[str, np.ndarray], reference: Any = None) -> dict[str, float]:
    """denoising: the mean error of the raw output, which is EDM's loss."""
    del reference
    return {'denoising': float(np.mean(said['error'], dtype=np.float64))}
