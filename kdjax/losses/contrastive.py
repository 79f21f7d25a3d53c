"""Contrastive distillation: against the rest of the batch, and against a memory bank.

The memory bank is an array in the train state. In one step: take rows of it, score (`memory_scores`), fix the
normalisers at the first step (`memory_log_z`), take the loss (`memory_nce`), and only then `update_memory`.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import _checks, _norms, _rows


def in_batch_nce(
    student: Float[Array, 'batch ...'],
    teacher: Float[Array, 'teacher_batch ...'],
    *,
    temperature: _checks.Number = 0.07,
    symmetric: bool = False,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, ' batch']:
    """InfoNCE: -log softmax_j(cos(student_i, teacher_j) / temperature) at j = i, in nats.

    Coupled over the batch: the other examples are the negatives; masked examples are neither row nor column.
    `symmetric` averages with the same of each teacher row among the student's. Features [batch, ...] are
    flattened and scaled to length 1; project both to one width first. Range [0, inf); log n where all rows
    agree.
    Raises ValueError on different shapes and on temperature <= 0.
    Source: InfoNCE (arXiv 1807.03748, equation 4) in place of the memory bank of CRD, arXiv 1910.10699.
    """
    _checks.positive('temperature', temperature)
    _checks.same_features(student, teacher)
    student, teacher, valid = _rows.feature_rows(student, teacher, where)
    scores = jnp.matmul(_norms.unit(student), _norms.unit(teacher).T, precision='highest') / temperature
    rows = _own_surprise(scores, valid)
    return valid * (0.5 * (rows + _own_surprise(scores.T, valid)) if symmetric else rows)


def memory_scores(
    embedding: Float[Array, 'batch width'],
    rows: Float[Array, 'rows_batch slots rows_width'],
    *,
    temperature: _checks.Number = 0.07,
) -> Float[Array, 'batch slots']:
    """<embedding, row> / temperature: the log of CRD's critic before its normaliser.

    embedding: of one network, scaled to length 1. rows: of the OTHER network's bank, positive in slot 0.
    Raises ValueError on rows of another batch or width, and on temperature <= 0.
    """
    _checks.positive('temperature', temperature)
    if (rows.shape[0], rows.shape[2]) != embedding.shape:
        raise ValueError(
            f'embedding has shape {embedding.shape}, bank rows {rows.shape}: rows are [batch, slots, width]'
        )
    embedding, rows = _rows.widened(embedding, rows)
    return jnp.einsum('bd,bsd->bs', embedding, rows, precision='highest') / temperature


def memory_log_z(
    scores: Float[Array, 'batch slots'], *, bank_size: int, where: Bool[Array, ' batch'] | None = None
) -> Float[Array, '']:
    """log Z, Z = bank_size * mean exp(scores).

    Computed on the first batch, then a constant of the train state.
    It depends on how the bank was initialised, hence on the seed: keep it in the checkpoint. No gradient.
    """
    (scores,) = _rows.widened(scores)
    scores = jax.lax.stop_gradient(scores)
    valid = jnp.ones(scores.shape[:1], bool) if where is None else where
    total = jax.nn.logsumexp(jnp.where(valid[:, None], scores, -jnp.inf))
    counted = _rows.count(valid.astype(scores.dtype)) * scores.shape[1]
    return total - jnp.log(counted) + math.log(bank_size)


def memory_nce(
    scores: Float[Array, 'batch slots'],
    log_z: Float[Array, ''],
    *,
    bank_size: int,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, ' batch']:
    """NCE of one positive (slot 0) among K negatives: -log h_0 - sum_k log(1 - h_k), in nats.

    h = P / (P + K / bank_size), P = exp(scores) / Z: the posterior that a slot is the positive. Range (0,
    inf). In log space, where the released code divides, with an epsilon of 1e-7 in the denominator that is
    absent here.
    Raises ValueError on fewer than two slots. Source: CRD, arXiv 1910.10699, and its
    code.
    """
    if scores.shape[1] < 2:
        raise ValueError(f'scores have shape {scores.shape}: NCE needs a positive and a negative slot')
    _checks.mask_shape(where, scores.shape[:1])
    scores, log_z = _rows.widened(scores, log_z)
    odds = _rows.blanked(scores, where) - log_z - math.log((scores.shape[1] - 1) / bank_size)
    values = -jax.nn.log_sigmoid(odds[:, 0]) - jnp.sum(jax.nn.log_sigmoid(-odds[:, 1:]), axis=1)
    return _rows.kept(values, where)


def crd(
    student: Float[Array, 'batch width'],
    teacher: Float[Array, 'teacher_batch teacher_width'],
    student_rows: Float[Array, 'rows_batch slots rows_width'],
    teacher_rows: Float[Array, 'rows_batch slots rows_width'],
    log_z: Float[Array, '2'],
    *,
    bank_size: int,
    temperature: _checks.Number = 0.07,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, ' batch']:
    """CRD: `memory_nce` of the student in the teacher's bank, plus that of the teacher in the student's.

    student, teacher: learned embeddings, scaled to length 1 here (a zero vector stays 0). student_rows,
    teacher_rows: rows of each bank, the example's own in slot 0, constants. log_z: (student's, teacher's)
    from `memory_log_z`, of the scores of the student in teacher_rows and of the teacher in student_rows.
    The examples of the batch do not meet: all coupling is through the bank. Range (0, inf).
    Raises ValueError on different shapes and on temperature <= 0. Source: CRD, arXiv 1910.10699, and its
    code.
    """
    _checks.same_features(student, teacher)
    _checks.mask_shape(where, student.shape[:1])
    arrays = _rows.widened(student, teacher, student_rows, teacher_rows, log_z)
    student, teacher, student_rows, teacher_rows = (_rows.blanked(x, where) for x in arrays[:4])
    of_student = memory_scores(_norms.unit(student), teacher_rows, temperature=temperature)
    of_teacher = memory_scores(_norms.unit(teacher), student_rows, temperature=temperature)
    values = memory_nce(of_student, arrays[4][0], bank_size=bank_size)
    return _rows.kept(values + memory_nce(of_teacher, arrays[4][1], bank_size=bank_size), where)


def update_memory(
    bank: Float[Array, 'rows width'],
    index: Int[Array, ' batch'],
    embedding: Float[Array, 'batch width'],
    *,
    momentum: float | int = 0.5,
    where: Bool[Array, ' batch'] | None = None,
) -> Float[Array, 'rows width']:
    """The bank with row index_i <- unit(momentum * row + (1 - momentum) * embedding_i), in the bank's dtype.

    Indices are distinct within a batch (of equal ones, one is kept); masked examples and indices beyond the
    bank write nothing. No gradient. Call it after the loss: before it, the positive would hold the embedding
    itself.
    """
    _checks.between('momentum', momentum, 0, 1)
    index = index if where is None else jnp.where(where, index, bank.shape[0])
    old, new = _rows.widened(bank.at[index].get(mode='clip'), jax.lax.stop_gradient(embedding))
    rows = _norms.unit(momentum * old + (1 - momentum) * new)
    return bank.at[index].set(rows.astype(bank.dtype), mode='drop')


def _own_surprise(scores, valid):
    columns = jnp.where(valid[None, :] > 0, scores, -jnp.inf)
    own = jnp.diagonal(scores)
    # A masked row of its own has nothing to compare with when no column counts.
    total = jax.nn.logsumexp(jnp.where(jnp.any(valid > 0), columns, jnp.zeros_like(columns)), axis=1)
    return total - own
