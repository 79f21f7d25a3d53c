"""A denoiser: any function of (x_t, t, condition) together with what its output means and under which schedule.

Objectives, solvers and diagnoses take denoisers, so that an analytic mixture, a frozen teacher and a fake score are
interchangeable.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.diffusion.checks import Time, labels_in_range, over, time_of_schedule
from kdjax.diffusion.guidance import Guidance
from kdjax.diffusion.parametrisation import Weights, carried, known_prediction, preconditioning, weights
from kdjax.diffusion.schedules import Schedule
from kdjax.errors import UserError

Network = Callable[[Array, Array, Any], Array]
"""(x_t `[batch, ...]`, t `[batch]`, condition) -> raw, of the shape of x_t."""


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """A network with a meaning. Every method takes (x_t, t, condition); t is one time, or one for each example.

    network: (x_t, t `[batch]`, condition) -> raw. Its parameters are already in it: close over them.
    schedule: under which x_t was noised.
    predicts: what `raw` is, a row of the table in `parametrisation`.
    sigma_data: of the data, for 'edm' and 'trigflow'; that of a TrigFlow schedule where it is left out.
    classes: of an integer condition; the null class is `classes`. Concrete labels outside are refused.
    name: whom errors blame.
    calls: evaluations of the network each time that it is asked.

    Outputs are float32 or wider. Raises UserError where the prediction is not stated or unknown, and without the
    sigma_data that it needs.
    """

    network: Network
    schedule: Schedule
    predicts: str | None = None
    sigma_data: float | int | None = None
    classes: int | None = None
    name: str = 'denoiser'
    calls: int = 1

    def __post_init__(self) -> None:
        if self.sigma_data is None:
            object.__setattr__(self, 'sigma_data', getattr(self.schedule, 'sigma_data', None))
        known_prediction(self.predicts, repr(self.name), self.sigma_data)

    def raw(self, x_t: Float[Array, 'batch *event'], t: Time, condition: Any = None) -> Float[Array, 'batch *event']:
        """What the network says, in the meaning of `predicts`."""
        if self.classes is not None and condition is not None:
            labels_in_range(condition, self.classes, self.name)
        t = jnp.broadcast_to(time_of_schedule(t, self.schedule.name), x_t.shape[:1])
        raw = self.network(x_t, t, condition)
        if raw.shape != x_t.shape:
            raise UserError(
                f'{self.name!r} answers x_t of shape {x_t.shape} with {raw.shape}: they have to be the same'
            )
        return _wide(raw)

    def data(self, x_t: Float[Array, 'batch *event'], t: Time, condition: Any = None) -> Float[Array, 'batch *event']:
        """E[x | x_t]: the clean sample expected."""
        return self._as(lambda alpha, sigma: weights('data', alpha, sigma), x_t, t, condition)

    def noise(self, x_t: Float[Array, 'batch *event'], t: Time, condition: Any = None) -> Float[Array, 'batch *event']:
        """E[noise | x_t]."""
        return self._as(lambda alpha, sigma: weights('noise', alpha, sigma), x_t, t, condition)

    def score(self, x_t: Float[Array, 'batch *event'], t: Time, condition: Any = None) -> Float[Array, 'batch *event']:
        """The gradient in x_t of log p_t(x_t): -noise / sigma."""
        return self._as(lambda alpha, sigma: Weights(jnp.zeros_like(alpha), -1 / sigma), x_t, t, condition)

    def velocity(
        self, x_t: Float[Array, 'batch *event'], t: Time, condition: Any = None
    ) -> Float[Array, 'batch *event']:
        """dx_t / dt of the probability-flow ODE: alpha' data + sigma' noise, under any schedule."""
        rates = Weights(*self.schedule.rates(t))
        return self._as(lambda alpha, sigma: rates, x_t, t, condition)

    def _as(self, target: Callable[[Array, Array], Weights], x_t, t: Time, condition: Any):
        alpha, sigma = self.schedule.levels(t)
        assert self.predicts is not None
        source, raw = weights(self.predicts, alpha, sigma, self.sigma_data), self.raw(x_t, t, condition)
        return carried(raw, _wide(x_t), source, target(alpha, sigma), alpha, sigma)

    def predicting(self, prediction: str, sigma_data: float | int | None = None) -> 'Denoiser':
        """The same denoiser, whose raw output is another prediction.

        sigma_data: of that prediction, if this denoiser has none.
        """
        scale = self.sigma_data if sigma_data is None else sigma_data
        known_prediction(prediction, repr(self.name), scale)

        def network(x_t, t, condition):
            return self._as(lambda alpha, sigma: weights(prediction, alpha, sigma, scale), x_t, t, condition)

        return dataclasses.replace(self, network=network, predicts=prediction, sigma_data=scale)

    def under(self, schedule: Schedule) -> 'Denoiser':
        """The same function under another schedule, its predictions those of the same signal-to-noise ratio.

        The new x_t is rescaled to what the network knows at the time of equal ratio, and the network's answer is kept
        (a 'v' becomes the new schedule's v). Nothing is lost: a flow network becomes a TrigFlow one, say. Ratios beyond
        the ends of the network's own schedule are answered at its end, which is then an approximation.
        Source: the conversion of flow models into TrigFlow, arXiv 2503.09641, section 3.
        """
        if schedule == self.schedule:
            return self
        if self.predicts == 'v':
            turned = self.predicting('trigflow', sigma_data=1.0).under(schedule).predicting('v')
            return dataclasses.replace(turned, sigma_data=self.sigma_data)

        def network(x_t, t, condition):
            own = self.schedule.time_of(schedule.log_snr(t))
            scale = jnp.hypot(*self.schedule.levels(own)) / jnp.hypot(*schedule.levels(t))
            return self.raw(over(scale, x_t) * x_t, own, condition)

        return dataclasses.replace(self, network=network, schedule=schedule)

    def guided(self, guidance: Guidance, null: Any) -> 'Denoiser':
        """The guided prediction, again a denoiser; two evaluations of the network unless the guidance is plain.

        null: the condition of the unconditional branch, for one example: the index of the null class, say.
        Raises UserError without it, and later where no condition is given.
        """
        if guidance.plain:
            return self
        if null is None:
            raise UserError(
                f'guidance of {self.name!r} with scale {guidance.scale} needs an unconditional branch: pass null=, for '
                'a class-conditional network the index of its null class'
            )

        def network(x_t, t, condition):
            if condition is None:
                raise UserError(f'{self.name!r} is guided but was given no condition: pass one for each example')
            nulls = jax.tree.map(lambda row: jnp.broadcast_to(row, (len(x_t), *jnp.shape(row))), null)
            return guidance.combined(self.raw(x_t, t, condition), self.raw(x_t, t, nulls))

        return dataclasses.replace(self, network=network, calls=2 * self.calls)


def preconditioned(network: Network, schedule: Schedule, sigma_data: float | int) -> Network:
    """A network that is told c_in x_t and c_noise, as EDM's are, as one that is told (x_t, t): its output is 'edm'.

    Under any schedule: EDM's x_t is x_t / alpha, its sigma is sigma / alpha.
    Source: arXiv 2206.00364, equation 7.
    """

    def told(x_t, t, condition):
        alpha, sigma = schedule.levels(t)
        coefficients = preconditioning(sigma / alpha, sigma_data)
        return network(over(coefficients.into / alpha, x_t) * x_t, coefficients.noise, condition)

    return told


def tangent(
    denoiser: Denoiser,
    x_t: Float[Array, 'batch *event'],
    t: Time,
    dx: Float[Array, 'batch *event'],
    dt: Time,
    condition: Any = None,
    *,
    of: str = 'raw',
) -> tuple[Float[Array, 'batch *event'], Float[Array, 'batch *event']]:
    """(value, its derivative along (dx, dt)), in one forward pass.

    of: 'raw', 'data', 'noise', 'score' or 'velocity'.
    Along dx = velocity, dt = 1 it is the total derivative on the trajectory, which continuous consistency models and
    MeanFlow need.
    """
    if of not in ('raw', 'data', 'noise', 'score', 'velocity'):
        raise UserError(f"tangent of {of!r}: choose 'raw', 'data', 'noise', 'score' or 'velocity'")
    method = getattr(denoiser, of)
    t = jnp.broadcast_to(time_of_schedule(t, denoiser.schedule.name), x_t.shape[:1]).astype(_wide(x_t).dtype)
    dt = jnp.broadcast_to(jnp.asarray(dt, t.dtype), t.shape)
    return jax.jvp(lambda x, time: method(x, time, condition), (x_t, t), (dx, dt))


def _wide(x: Array) -> Array:
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)
