"""What this room refuses wherever a value is concrete, and the one place where times meet images.

Values that are being traced (inside `jax.jit`, `lax.scan`, `jax.grad`) cannot be looked at and are taken on trust.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdjax.errors import UserError

Time = Float[Array, '...'] | float | int
"""A time in [0, 1], 0 = data, 1 = noise: one, or one for each example."""


def concrete(value) -> bool:
    return not isinstance(value, jax.core.Tracer)


def time_of_schedule(t: Time, schedule: str) -> Float[Array, '...']:
    """`t` as an array of floats; a UserError on a concrete time outside [0, 1]."""
    t = jnp.asarray(t) if jnp.issubdtype(jnp.result_type(t), jnp.floating) else jnp.asarray(t, float)
    if concrete(t):
        values = np.asarray(t)
        inside = (values >= 0) & (values <= 1)
        if not inside.all():
            raise UserError(
                f'time {values[~inside].flat[0]:g} is outside [0, 1] of the schedule {schedule!r}: time runs from data '
                '(0) to noise (1); divide steps by their number, and turn a noise level into a time with `time_of`'
            )
    return t


def over(values: Float[Array, '...'], x: Float[Array, 'batch *event']) -> Float[Array, '...']:
    """One value, or one for each example, shaped so that it multiplies `x`.

    Raises UserError unless `values` has shape [] or [batch], or already the rank of `x`.
    """
    values = jnp.asarray(values)
    if values.ndim == x.ndim:
        return values
    if values.ndim == 0:
        return values.reshape((1,) * x.ndim)
    if values.ndim > 1 or x.ndim == 0 or values.shape[0] not in (1, x.shape[0]):
        raise UserError(f'times have shape {values.shape}, x {x.shape}: give one time, or one for each example')
    return values.reshape(values.shape + (1,) * (x.ndim - 1))


def labels_in_range(labels: Array, classes: int, who: str) -> None:
    """A UserError on a concrete label that is neither a class nor the null class, `classes`."""
    if not concrete(labels):
        return
    values = np.asarray(labels)
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise UserError(f'the condition of {who!r} has dtype {values.dtype}: give class labels as integers')
    outside = (values < 0) | (values > classes)
    if outside.any():
        raise UserError(
            f'label {values[outside].flat[0]} is outside the classes of {who!r}: they are 0 to {classes - 1}, and '
            f'{classes} is the null class'
        )


def finite(player: str, values: Float[Array, 'batch *event'], t: Time | None = None) -> None:
    """A UserError that names the player, the first bad example and its time, unless every value is finite.

    player: whose score it is, e.g. 'fake'.
    On the host, for concrete values only: in a compiled step log `jnp.isfinite(score).all()` instead.
    """
    bad = ~np.isfinite(np.asarray(values).reshape(len(values), -1)).all(axis=1)
    if not bad.any():
        return
    first = int(np.argmax(bad))
    when = '' if t is None else f' (t = {np.broadcast_to(np.asarray(t), bad.shape)[first]:g})'
    raise UserError(
        f'the score of {player!r} is not finite in {bad.sum()} of {len(bad)} examples, first in example {first}{when}: '
        'keep t away from the end at which its parametrisation divides by 0, or lower its learning rate'
    )
