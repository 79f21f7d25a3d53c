"""Matching intermediate features: hints and attention maps."""

import jax
import jax.numpy as jnp
from einops import reduce
from jaxtyping import Array, Bool, Float

from . import _checks, _norms, _rows


def hint_mse(
    student: Float[Array, 'batch ...'],
    teacher: Float[Array, 'teacher_batch ...'],
    *,
    axis: int | tuple[int, ...] | None = None,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """Mean of (student - teacher)^2 over the feature axes.

    student: features after the projector (a learned part of the objective), of the teacher's shape.
    axis: the feature axes; None: all but the first. The others index examples, e.g. axis=-1 for tokens.
    Range [0, inf), 0 where student = teacher. Raises ValueError on different shapes.
    Source: FitNets, arXiv 1412.6550, equation 3 up to the factor 1/2 and the mean over features.
    """
    _checks.same_features(student, teacher)
    student, teacher = _rows.widened(student, teacher)
    axes = range(1, student.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    features = tuple(sorted(i % student.ndim for i in axes))
    last = tuple(range(-len(features), 0))
    student, teacher = (jnp.moveaxis(x, features, last) for x in (student, teacher))
    _checks.mask_shape(where, student.shape[: student.ndim - len(features)])
    student, teacher = _rows.blanked(student, where), _rows.blanked(teacher, where)
    return _rows.kept(jnp.mean(jnp.square(student - teacher), axis=last), where)


def attention_transfer(
    student: Float[Array, 'batch ...'],
    teacher: Float[Array, 'teacher_batch ...'],
    *,
    power: float | int = 2,
    form: str = 'code',
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """Distance of normalised attention maps f = F / ||F||, F = sum over channels of |A|^power.

    Features [batch, height, width, channels], or any number of places; the channel counts may differ, and
    where the places differ by a whole factor the larger side is averaged over windows.
    form 'code': mean over places of (f_s - f_t)^2, as released (times beta = 1000 there);
    form 'paper': ||f_s - f_t||_2 (times beta / 2 in the paper). paper^2 = places * code, so no beta turns
    one into the other. (Sum and mean over channels give the same f.)

    Range [0, 2 / places] and [0, sqrt 2], 0 where the maps agree up to scale; a map of zeros stays zero and
    gets no gradient.
    Raises ValueError on different batches, places that do not divide, power < 1 and unknown forms.
    Source: arXiv 1612.03928, equation 2, and its code.
    """
    _checks.one_of('form', form, ('code', 'paper'))
    _checks.between('power', power, 1, float('inf'))
    _checks.same_batch(student, teacher)
    _checks.mask_shape(where, student.shape[:1])
    student, teacher = (
        _rows.blanked(jnp.moveaxis(x, axis, -1), where) for x in _rows.widened(student, teacher)
    )
    places = tuple(map(min, student.shape[1:-1], teacher.shape[1:-1]))
    if not student.ndim == teacher.ndim or any(
        n % m for x in (student, teacher) for n, m in zip(x.shape[1:-1], places, strict=True)
    ):
        raise ValueError(
            f'student features have shape {student.shape}, teacher features {teacher.shape} (channels last): '
            'their places have to be equal or a whole multiple; resize one of them'
        )
    student, teacher = (_attention_map(_pooled(x, places), power) for x in (student, teacher))
    squares = jnp.square(student - teacher)
    values = jnp.mean(squares, axis=-1) if form == 'code' else _norms.root(jnp.sum(squares, axis=-1))
    return _rows.kept(values, where)


def _pooled(x, places):
    """Averages over windows, down to the given places."""
    for i, n in enumerate(places, start=1):
        if x.shape[i] != n:
            x = jnp.mean(x.reshape(x.shape[:i] + (n, -1) + x.shape[i + 1 :]), axis=i + 1)
    return x


def _attention_map(x, power):
    """[batch, places], of length 1; the largest activation is divided out before the power, as a constant."""
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True))
    x = jnp.abs(x / jnp.where(largest > 0, largest, 1.0))
    return _norms.unit(reduce(x**power, 'batch place channel -> batch place', 'mean'))
