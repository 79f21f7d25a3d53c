"""Dual-space distillation (DSKD): hidden states of one model through the frozen head of the other.

    teacher -> student space: logits of (projected teacher states) @ (student head)^T, the head constant
    student -> teacher space: logits of (projected student states) @ (teacher head)^T, then `kl_forward` to the teacher

The projectors are learned parts of an objective. Across tokenizers `cross_attention` aligns the two sequences first.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import _checks, _rows
from .divergences import kl_forward
from .labels import cross_entropy


def student_space(
    student: Float[Array, '*batch classes'],
    projected: Float[Array, '*projected_batch projected_classes'],
    labels: Int[Array, '*batch'],
    *,
    correct_only: bool = True,
    where: Bool[Array, '*batch'] | None = None,
) -> Float[Array, '*batch']:
    """CE(projected, label) + KL(projected || student), in nats.

    projected: the teacher's states, projected, through the student's head. The first term trains their projector; in
        the second they are a constant.
    correct_only: the second term only where the projected teacher's likeliest token is the label, as in the form with
        cross-model attention; False is DSKD for one tokenizer.

    Range [0, inf). At student = projected it is the cross-entropy. Raises ValueError as those two losses.
    Source: DSKD, arXiv 2406.17328, and its code.
    """
    labelled = cross_entropy(projected, labels, where=where)
    pulled = kl_forward(student, jax.lax.stop_gradient(projected), where=where)
    if correct_only:
        pulled = jnp.where(jnp.argmax(projected, axis=-1).astype(labels.dtype) == labels, pulled, 0.0)
    return labelled + pulled


def cross_attention(
    queries: Float[Array, '*batch student_time width'],
    keys: Float[Array, '*batch teacher_time teacher_width'],
    *,
    student_where: Bool[Array, '*batch student_time'],
    teacher_where: Bool[Array, '*batch teacher_time'],
) -> tuple[Float[Array, '*batch student_time teacher_time'], Float[Array, '*batch teacher_time student_time']]:
    """Softmax weights over the teacher's tokens for each student token, and over the student's for each teacher token.

    queries: of the student's tokens, a learned projection of its embeddings of input and label side by side, to the
        width of the keys. keys: the teacher's embeddings of input and label side by side, divided by `spread`.
    Scores are scaled by 1 / sqrt(width). Tokens that do not count get no weight, and a row of zeros.
    Not a loss. Source: DSKD-CMA, arXiv 2406.17328, and its code (width: twice the teacher's).
    """
    queries, keys = _rows.widened(_rows.blanked(queries, student_where), _rows.blanked(keys, teacher_where))
    if queries.shape[-1] != keys.shape[-1]:
        raise ValueError(f'queries have width {queries.shape[-1]}, keys {keys.shape[-1]}: project the queries')
    scores = jnp.einsum('...sd,...td->...st', queries, keys) * keys.shape[-1] ** -0.5
    both = student_where[..., :, None] & teacher_where[..., None, :]
    return _weights(scores, both), _weights(jnp.swapaxes(scores, -1, -2), jnp.swapaxes(both, -1, -2))


def spread(
    x: Float[Array, '*batch width'], *, where: Bool[Array, '*batch'] | None = None
) -> Float[Array, '']:
    """The standard deviation of all entries of the tokens that count; a constant, and 1 where they do not vary.

    Not a loss. One number for a batch, as in DSKD's code, which also counts padding.
    """
    _checks.mask_shape(where, x.shape[:-1])
    (x,) = _rows.widened(x)
    valid = jnp.ones(x.shape[:-1], bool) if where is None else where
    valid = jnp.broadcast_to(valid[..., None], x.shape)
    deviation = jnp.std(x, where=valid)
    return jax.lax.stop_gradient(jnp.where(deviation > 0, deviation, 1.0))


def _weights(scores, allowed):
    some = jnp.any(allowed, axis=-1, keepdims=True)
    weights = jax.nn.softmax(jnp.where(allowed | ~some, scores, -jnp.inf))
    return jnp.where(some, weights, 0.0)
