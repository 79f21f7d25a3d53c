"""MiniLM: relations between the tokens of a sequence, as an attention layer sees them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import _categorical, _rows


def attention_relation(
    student_queries: Float[Array, '*batch time student_heads student_width'],
    student_keys: Float[Array, '*batch time student_key_heads student_width'],
    teacher_queries: Float[Array, '*batch time teacher_heads teacher_width'],
    teacher_keys: Float[Array, '*batch time teacher_key_heads teacher_width'],
    segments: Int[Array, '*batch time'] | None = None,
    *,
    heads: int | None = None,
    causal: bool = False,
    where: Bool[Array, '*batch time'] | None = None,
) -> Float[Array, '*batch time']:
    """For each query token, KL(A_teacher || A_student) over the keys, the mean over heads; A = softmax(q k / sqrt(d)).

    Each side has its own width d of a head; they need as many heads. Keys of fewer heads than queries are repeated.
    heads: splits the concatenated heads of both anew into so many (MiniLMv2), where they differ in number.
    segments: only tokens of one segment see each other, and 0 is padding; `where` then only selects queries. Without
        segments, tokens that `where` leaves out are no keys either.
    causal: keys up to the query.

    Couples the tokens of a sequence, not the sequences. The mean over the tokens that count is the published scalar.
    Range [0, inf), 0 where student = teacher. Raises ValueError on different numbers of heads and of tokens.
    Source: MiniLM, arXiv 2002.10957, section 3.1; heads: MiniLMv2, arXiv 2012.15828.
    """
    alive = _alive(student_queries, segments, where)
    student = _scores(student_queries, student_keys, alive, heads)
    teacher = _scores(teacher_queries, teacher_keys, alive, heads)
    return _relation_kl(student, teacher, _visible(alive, segments, causal), alive, where)


def value_relation(
    student_values: Float[Array, '*batch time student_heads student_width'],
    teacher_values: Float[Array, '*batch time teacher_heads teacher_width'],
    segments: Int[Array, '*batch time'] | None = None,
    *,
    heads: int | None = None,
    causal: bool = False,
    where: Bool[Array, '*batch time'] | None = None,
) -> Float[Array, '*batch time']:
    """For each token, KL(R_teacher || R_student) over the others, the mean over heads; R = softmax(v v / sqrt(d)).

    Arguments, range and errors as in `attention_relation`; the two are added with equal weights. Other tensors of
    the shape of values (queries, keys) give the further relations of MiniLMv2.
    Source: MiniLM, arXiv 2002.10957, section 3.2.
    """
    return attention_relation(
        student_values, student_values, teacher_values, teacher_values, segments,
        heads=heads, causal=causal, where=where,
    )  # fmt: skip


def _alive(x, segments, where):
    """Tokens that exist, `[*batch, time]`."""
    if segments is not None:
        return segments > 0
    return jnp.ones(x.shape[:-2], bool) if where is None else where


def _visible(alive, segments, causal: bool):
    """Which keys each query sees, `[*batch, time, time]`; itself always, so that every row is a distribution."""
    seen = alive[..., :, None] & alive[..., None, :]
    if segments is not None:
        seen = seen & (segments[..., :, None] == segments[..., None, :])
    return (jnp.tril(seen) if causal else seen) | jnp.broadcast_to(jnp.eye(seen.shape[-1], dtype=bool), seen.shape)


def _scores(queries, keys, alive, heads: int | None):
    """q k / sqrt(d), `[*batch, heads, time, time]`."""
    queries, keys = (_rows.blanked(x, alive) for x in _rows.widened(queries, keys))
    if queries.shape[-2] % keys.shape[-2]:
        raise ValueError(f'{queries.shape[-2]} query heads do not share {keys.shape[-2]} key heads evenly')
    keys = jnp.repeat(keys, queries.shape[-2] // keys.shape[-2], axis=-2)
    if heads is not None:
        queries, keys = _split(queries, heads), _split(keys, heads)
    return jnp.einsum('...qhd,...khd->...hqk', queries, keys) * queries.shape[-1] ** -0.5


def _split(x, heads: int):
    width = x.shape[-2] * x.shape[-1]
    if width % heads:
        raise ValueError(f'{x.shape[-2]} heads of width {x.shape[-1]} cannot be split into {heads}: choose a divisor')
    return x.reshape(*x.shape[:-2], heads, width // heads)


def _relation_kl(student, teacher, visible, alive, where):
    if student.shape != teacher.shape:
        raise ValueError(
            f'student has relations {student.shape}, teacher {teacher.shape} (heads, queries, keys): '
            'pass heads= to split both into as many, or take layers with as many heads'
        )
    log_s, log_p = (
        jax.nn.log_softmax(jnp.where(visible[..., None, :, :], x, -jnp.inf)) for x in (student, teacher)
    )
    values = jnp.mean(_categorical.kl(log_p, log_s), axis=-2)
    return jnp.where(alive if where is None else alive & where, values, 0.0)
