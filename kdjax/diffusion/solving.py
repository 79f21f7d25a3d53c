"""What a solver is: from a state at the first time of a grid to one at its last, one step of a denoiser after another.

    x = solver(denoiser, schedule.prior(noise), times, condition, key=key)

`times` is `[steps + 1]` and falls. With `to_data` one more evaluation gives the data expected at the last time, for
grids that end while there is noise. `nfe` counts evaluations of the network, those of the null branch of guidance too.
Everything is one `lax.scan`: call it inside `jax.jit`.
"""

import abc
import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.diffusion.denoiser import Denoiser
from kdjax.diffusion.times import Times, falling
from kdjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Step:
    """From where to where. `last` is a Python bool where the solver computes its last step apart."""

    denoiser: Denoiser
    condition: Any
    t: Array
    to: Array
    last: Any
    steps: int
    key: jax.Array | None

    def levels(self):
        """(alpha, sigma) before and after."""
        return *self.denoiser.schedule.levels(self.t), *self.denoiser.schedule.levels(self.to)

    def data(self, x: Array) -> Array:
        """What the denoiser expects, before the step."""
        return self.denoiser.data(x, self.t, self.condition)

    def noise(self, x: Array) -> Array:
        """Fresh standard normal noise of the shape of x."""
        assert self.key is not None
        return jax.random.normal(self.key, x.shape, x.dtype)


@dataclasses.dataclass(frozen=True)
class Solver(abc.ABC):
    """A rule for one step."""

    last_apart: ClassVar[bool] = False

    @abc.abstractmethod
    def step(self, x: Array, memory: Any, step: Step) -> tuple[Array, Any]:
        """(x at `step.to`, what the next step remembers)."""

    def memory(self, x: Array) -> Any:
        """What the first step remembers."""
        del x
        return ()

    @property
    def random(self) -> bool:
        """It draws noise, so that it needs a key."""
        return False

    def evaluations(self, steps: int) -> int:
        """Of the denoiser, in so many steps."""
        return steps

    def nfe(self, denoiser: Denoiser, times: Times, *, to_data: bool = False) -> int:
        """How often a network is evaluated for one sample, guidance included."""
        return denoiser.calls * (self.evaluations(len(times) - 1) + to_data)

    def __call__(
        self,
        denoiser: Denoiser,
        x: Float[Array, 'batch *event'],
        times: Times,
        condition: Any = None,
        *,
        key: jax.Array | None = None,
        to_data: bool = False,
    ) -> Float[Array, 'batch *event']:
        """The state at the last time, or the data expected there.

        x: the state at the first time, such as `denoiser.schedule.prior(noise)`.
        key: for solvers that draw noise; the noise of a step depends on it and on the number of the step.
        Raises UserError on times that do not fall, and where a solver that draws noise has no key.
        """
        return self._walked(denoiser, x, times, condition, key, to_data, keep=False)[0]

    def path(
        self,
        denoiser: Denoiser,
        x: Float[Array, 'batch *event'],
        times: Times,
        condition: Any = None,
        *,
        key: jax.Array | None = None,
        to_data: bool = False,
    ) -> Float[Array, 'states batch *event']:
        """The state at every time, the first included; with `to_data` the data expected at last comes after them."""
        x_end, states = self._walked(denoiser, x, times, condition, key, to_data, keep=True)
        whole = jnp.concatenate([x[None].astype(states.dtype), states])
        return jnp.concatenate([whole, x_end[None]]) if to_data else whole

    def _walked(self, denoiser: Denoiser, x, times: Times, condition, key, to_data: bool, *, keep: bool):
        """(the result, the states after each step if they are kept)."""
        falling(times)
        x = x if x.dtype == jnp.float64 else x.astype(jnp.float32)
        if self.random and key is None:
            raise UserError(f'{type(self).__name__} draws noise: pass key=')
        steps = len(times) - 1

        def one(carry, inputs, last=None):
            x, memory = carry
            t, to, index = inputs
            drawn = None if key is None else jax.random.fold_in(key, index)
            is_last = index == steps - 1 if last is None else last
            step = Step(denoiser, condition, t, to, is_last, steps, drawn)
            x, memory = self.step(x, memory, step)
            return (x, memory), x if keep else None

        inputs = times[:-1], times[1:], jnp.arange(steps)
        if self.last_apart:
            early, late = (jax.tree.map(lambda a, part=part: a[part], inputs) for part in (slice(-1), -1))
            carry, states = jax.lax.scan(lambda c, i: one(c, i, False), (x, self.memory(x)), early)
            (x, _), state = one(carry, late, True)
            states = jnp.concatenate([states, state[None]]) if keep else None
        else:
            (x, _), states = jax.lax.scan(one, (x, self.memory(x)), inputs)
        return denoiser.data(x, times[-1], condition) if to_data else x, states
