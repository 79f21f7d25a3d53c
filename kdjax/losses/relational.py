"""Relations between the examples of a batch, and between features as random variables.

All but `vid` couple the batch: they return row contributions whose mean over the examples that count is the
published scalar. Features are [batch, ...], flattened; student and teacher may have different widths.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from . import _checks, _norms, _rows

PKT_EPSILON = 1e-7  # of the released code, inside its logarithm


def similarity_preserving(
    student: Float[Array, 'batch ...'],
    teacher: Float[Array, 'teacher_batch ...'],
    *,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, ' batch']:
    """||G_s - G_t||_F^2 / n^2, G = A A^T with rows scaled to length 1 (L2), A the flattened features.

    Row i contributes sum_j (G_s - G_t)_ij^2 / n. Coupled over the batch; masked examples are neither row nor
    column.
    Range of the mean [0, 4 / n], 0 where student = teacher, and where they differ by a rotation and a scale.
    Raises ValueError on different batch sizes. Source: SP, arXiv 1907.09682, section 2.
    """
    student, teacher, valid = _rows.feature_rows(student, teacher, where)
    student, teacher = (_norms.unit(_gram(x)) for x in (student, teacher))
    return jnp.sum(jnp.square(student - teacher), axis=1) / _rows.count(valid)


def rkd_distance(
    student: Float[Array, 'batch ...'],
    teacher: Float[Array, 'teacher_batch ...'],
    *,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, ' batch']:
    """Mean over pairs (i, j) of smooth-L1(d_s - d_t), d_ij = ||x_i - x_j|| / the mean positive distance.

    Row i contributes its mean over j (j = i included, as in the code). Coupled over the batch; masked
    examples are in no pair. Distances come from differences, not from a Gram matrix, so that equal rows have
    distance 0 exactly; a distance of 0 gets no gradient. smooth-L1(x) = x^2 / 2 up to |x| = 1, then
    |x| - 1/2. Takes up to batch^2 width numbers of memory.
    Range [0, inf), 0 where student = teacher, and where they differ by a rigid motion and a scale.
    Raises ValueError on different batch sizes. Source: RKD, arXiv 1904.05068, section 3.2.
    """
    student, teacher, valid = _rows.feature_rows(student, teacher, where)
    pairs = valid[:, None] * valid[None, :]
    student, teacher = (_relative_distances(x, pairs) for x in (student, teacher))
    return jnp.sum(_smooth_l1(student - teacher), axis=1) / _rows.count(valid)


def rkd_angle(
    student: Float[Array, 'batch ...'],
    teacher: Float[Array, 'teacher_batch ...'],
    *,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, ' batch']:
    """Mean over triplets (i, j, k) of smooth-L1(cos_s - cos_t), cosines of the angle at i between j and k.

    Row i contributes the mean of the angles at it (those with equal members count as 0, as in the code).
    Coupled over the batch; masked examples are in no triplet. Takes batch^2 (batch + width) numbers of
    memory.
    Range [0, 3/2], 0 where student = teacher, and where they differ by a rigid motion and a scale.
    Raises ValueError on different batch sizes. Source: RKD, arXiv 1904.05068, section 3.2.
    """
    student, teacher, valid = _rows.feature_rows(student, teacher, where)
    pairs = valid[:, None] * valid[None, :]
    student, teacher = (_cosines_at(x, pairs) for x in (student, teacher))
    return jnp.sum(_smooth_l1(student - teacher), axis=(1, 2)) / _rows.count(valid) ** 2


def pkt(
    student: Float[Array, 'batch ...'],
    teacher: Float[Array, 'teacher_batch ...'],
    *,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, ' batch']:
    """mean_ij t_ij log((t_ij + 1e-7) / (s_ij + 1e-7)); s and t: (cosine + 1) / 2, rows divided by their sums.

    Row i contributes sum_j (...) / n. Coupled over the batch; masked examples are neither row nor column.
    Range [0, inf) up to the 1e-7, 0 where student = teacher, and where they differ by a rotation and a scale
    of each row. A zero vector has cosine 0 with all others, and gets no gradient.
    Raises ValueError on different batch sizes. Source: PKT, arXiv 1803.10837, and its code.
    """
    student, teacher, valid = _rows.feature_rows(student, teacher, where)
    pairs = valid[:, None] * valid[None, :]
    student, teacher = (_conditional_similarities(x, pairs) for x in (student, teacher))
    log_ratio = jnp.log(teacher + PKT_EPSILON) - jnp.log(student + PKT_EPSILON)
    return jnp.sum(teacher * log_ratio, axis=1) / _rows.count(valid)


def cka(
    student: Float[Array, 'batch ...'],
    teacher: Float[Array, 'teacher_batch ...'],
    *,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, ' batch']:
    """1 - linear CKA, CKA = <K, L>_F / (||K||_F ||L||_F), K and L the Gram matrices of the centred features.

    Row i contributes 1 - n <K_i, L_i> / (||K||_F ||L||_F). Coupled over the batch; masked examples enter
    neither the centre nor the Gram matrices. Range of the mean [0, 1], 0 where student = teacher; unchanged
    by a rotation, a shift and a scale of either side; 1 where a side is constant. Needs more examples than
    features to say much.
    Raises ValueError on different batch sizes. Source: arXiv 1905.00414, section 3.
    """
    student, teacher, valid = _rows.feature_rows(student, teacher, where)
    student, teacher = (_unit_gram(x, valid[:, None]) for x in (student, teacher))
    return valid * (1 - _rows.count(valid) * jnp.sum(student * teacher, axis=1))


def vid(
    student: Float[Array, 'batch ...'],
    teacher: Float[Array, 'teacher_batch ...'],
    rho: Float[Array, '...'],
    *,
    epsilon: float = 1e-5,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, ' batch']:
    """Variational information: mean over features of ((student - teacher)^2 / v + log v) / 2.

    v = softplus(rho) + epsilon, one variance for each channel, learned with the projector that makes
    `student` the mean of a Gaussian over the teacher's features. The published start is rho = log(exp(5 -
    epsilon) - 1): v = 5.
    student, teacher: [batch, ...] with channels on `axis`; rho: [channels].
    Range [log(epsilon) / 2, inf); (log v) / 2 where student = teacher. Not coupled over the batch.
    Raises ValueError on different shapes and on a rho that is not one number for each channel.
    Source: VID, arXiv 1904.05835, section 2 (without the constant log(2 pi) / 2).
    """
    _checks.same_features(student, teacher)
    _checks.mask_shape(where, student.shape[:1])
    if rho.shape != (student.shape[axis],):
        raise ValueError(
            f'rho has shape {rho.shape}, the features {student.shape} have {student.shape[axis]} channels on '
            f'axis {axis}: give one number for each channel'
        )
    student, teacher, rho = _rows.widened(student, teacher, rho)
    student, teacher = (_rows.blanked(jnp.moveaxis(x, axis, -1), where) for x in (student, teacher))
    variance = (jax.nn.softplus(rho) + epsilon).reshape((1,) * (student.ndim - 1) + (-1,))
    values = 0.5 * (jnp.square(student - teacher) / variance + jnp.log(variance))
    return _rows.kept(jnp.mean(values, axis=tuple(range(1, values.ndim))), where)


def _gram(x):
    return jnp.matmul(x, x.T, precision='highest')


def _smooth_l1(x):
    size = jnp.abs(x)
    return jnp.where(size < 1, 0.5 * x * x, size - 0.5)


def _relative_distances(x, pairs):
    squares = jnp.sum(jnp.square(x[:, None] - x[None, :]), axis=-1)
    distances = pairs * _norms.root(squares)
    positive = jnp.sum((distances > 0).astype(x.dtype))
    return _norms.ratio(distances * positive, jnp.sum(distances, keepdims=True))


def _cosines_at(x, pairs):
    """[vertex, one, other]."""
    arms = pairs[..., None] * _norms.unit(x[:, None] - x[None, :])
    return jnp.einsum('ijd,ikd->ijk', arms, arms, precision='highest')


def _conditional_similarities(x, pairs):
    x = _norms.unit(x)
    similarities = pairs * (_gram(x) + 1) / 2
    return _norms.ratio(similarities, jnp.sum(similarities, axis=1, keepdims=True))


def _unit_gram(x, valid):
    return _norms.unit(_gram(_norms.deviation(x, 0, valid)), axis=(0, 1))
