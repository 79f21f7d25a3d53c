"""Data-set distillation: distances of gradients, of training trajectories and of characteristic functions."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _norms, _rows, _samples

EPSILON = 1e-6  # of the released code of DC, added to the product of the lengths


def gradient_cosine(
    student: Float[Array, 'batch ...'],
    teacher: Float[Array, '...'],
    *,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """1 - cos of rows of gradients, cos = <s, t> / (|s| |t| + 1e-6); DC sums them over rows and layers.

    student, teacher: the gradients of a layer's weights on synthetic and on real data, one row for each output:
        a kernel `[height, width, in, out]` goes in as `moveaxis(kernel, -1, 0)`. Biases are left out in DC.
    Range [0, 2], about 0 where the rows agree up to scale and are long; 1, without gradient, where one is zero.
    Raises ValueError on different shapes. Source: DC, arXiv 2006.05929, equation 9, and its utils.py.
    """
    student, teacher = (x.reshape(x.shape[0], -1) for x in _samples.samples(where, student=student, teacher=teacher))
    lengths = [_norms.root(_samples.sums(x * x)) for x in (student, teacher)]
    values = 1 - _samples.sums(student * teacher) / (lengths[0] * lengths[1] + EPSILON)
    return _rows.kept(values, where)


def trajectory_distance(
    student: Float[Array, 'batch ...'],
    teacher: Float[Array, '...'],
    start: Float[Array, '...'],
    *,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, 'batch']:
    """|student - teacher|^2 / |start - teacher|^2: how much of the way of an expert is missing.

    student: parameters, flattened, after training on the synthetic set from `start`, an expert's parameters.
    teacher: the expert's parameters some epochs later.
    Range [0, inf); 0 where student = teacher, 1 where the student has not moved; 0 where the expert has not.
    Raises ValueError on different shapes. Source: MTT, arXiv 2203.11932, equation 2.
    """
    student, teacher, start = _samples.samples(where, student=student, teacher=teacher, start=start)
    missing, way = (_samples.sums(jnp.square(x - teacher)) for x in (student, start))
    return _rows.kept(_norms.ratio(missing, way), where)


def characteristic_distance(
    student_cosine: Float[Array, ' batch'],
    student_sine: Float[Array, ' batch'],
    teacher_cosine: Float[Array, ' batch'],
    teacher_sine: Float[Array, ' batch'],
    *,
    amplitude: float | int = 0.5,
    phase: float | int = 0.5,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, ' batch']:
    """sqrt(amplitude (|t| - |s|)^2 + 2 phase (|t| |s| - Re t Re s - Im t Im s)) for each frequency.

    s, t: characteristic functions E exp(i <frequency, feature>) of synthetic and of real features, as the means of
        cosine and sine; the batch is that of frequencies. With amplitude = phase = 0.5 this is |s - t| / sqrt(2).
    Range [0, inf), 0, without gradient, where s = t. The root is per frequency; NCFM multiplies the mean by 300.
    Source: NCFM, arXiv 2502.20653, equation 6, and its NCFM.py.
    """
    s_re, s_im, t_re, t_im = _rows.paired(
        where,
        student_cosine=student_cosine, student_sine=student_sine,
        teacher_cosine=teacher_cosine, teacher_sine=teacher_sine,
    )  # fmt: skip
    apart = jnp.square(s_re - t_re) + jnp.square(s_im - t_im)  # = (|t| - |s|)^2 + 2 (|t| |s| - Re t Re s - Im t Im s)
    longer = _norms.root(t_re**2 + t_im**2) - _norms.root(s_re**2 + s_im**2)
    squares = jnp.maximum(phase * apart + (amplitude - phase) * jnp.square(longer), 0)
    return _rows.kept(_norms.root(squares), where)
