"""Across tokenizers: likelihoods of aligned chunks (ALM), sorted probabilities (ULD), and vocabularies that differ."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import _checks, _rows


def alm(
    student: Float[Array, '*batch chunks'],
    teacher: Float[Array, '*teacher_batch teacher_chunks'],
    *,
    temperature: float | int = 100.0,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*batch chunks']:
    """KL(Bernoulli(x) || Bernoulli(y)) for each chunk of text, in nats; x = p^(1/T), a constant, and y = s^(1/T).

    student, teacher: log-probabilities of the same pieces of text, each under its own tokens: `chunk_log_probs`.
    Values above 0 count as 0. Both get 1e-6 less, so that a sure chunk has finite gradients.
    Range [0, inf), 0 where student = teacher. It tells one chunk from all others together, so that at T = 1 it is a
    lower bound of the divergence over chunks. At a high temperature, T times it goes to (v - u) + u log(u / v) with
    u = -log p, v = -log s: the gradient is of the size of 1 / T. (The released code keeps the entropy of x in the
    value: the same gradient.)

    Raises ValueError on temperature <= 0 and on different shapes.
    Source: Minixhofer et al., arXiv 2503.20083, and its code (`binary_ce`, T = 100).
    """
    _checks.positive('temperature', temperature)
    pair = _rows.paired(where, student=student, teacher=teacher)
    log_y, log_x = (jnp.minimum(a, 0.0) / temperature - 1e-6 for a in pair)
    log_x = jax.lax.stop_gradient(log_x)
    same = jnp.exp(log_x) * (log_x - log_y)
    other = -jnp.expm1(log_x) * (jax.nn.log1mexp(-log_x) - jax.nn.log1mexp(-log_y))
    return _rows.kept(same + other, where)


def chunk_log_probs(
    log_probs: Float[Array, '*batch time'], chunk: Int[Array, '*batch time'], *, chunks: int
) -> Float[Array, '*batch chunks']:
    """Sums of token log-probabilities by chunk; 0 for a chunk without tokens.

    chunk: the chunk of each token, 0 .. chunks - 1 of `kdjax.data.alignment`; tokens at -1 are in none.
    It also merges chunks: with their log-probabilities for tokens and `merged_chunks` for ids.
    Not a loss. Source: ALM, arXiv 2503.20083.
    """
    (log_probs,) = _rows.widened(log_probs)
    log_probs = jnp.where(chunk >= 0, log_probs, 0.0)

    def row(values, ids):
        return jax.ops.segment_sum(values, jnp.where(ids >= 0, ids, chunks), num_segments=chunks)

    flat = jax.vmap(row)(log_probs.reshape(-1, log_probs.shape[-1]), chunk.reshape(-1, chunk.shape[-1]))
    return flat.reshape(*log_probs.shape[:-1], chunks)


def merged_chunks(boundary: Float[Array, '*batch chunks'], *, above: float = 0.1) -> Int[Array, '*batch chunks']:
    """Ids of longer chunks: one closes after a chunk where the teacher expects a boundary with more than `above`.

    boundary: at each chunk's last token, the log-probability that the next token begins with a space, tab, newline
        or ends the text.
    Not a loss; constant. What is left after the last boundary is a chunk too.
    Source: `merge_by_space_prob` in the code of arXiv 2503.20083.
    """
    _checks.between('above', above, 0, 1)
    closes = (jnp.exp(boundary) > above).astype(jnp.int32)
    return jnp.cumsum(closes, axis=-1) - closes


def uld(
    student: Float[Array, '*batch student_classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    *,
    temperature: _checks.Number = 1.0,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """sum_i |s_(i) - p_(i)| of the probabilities in falling order, the shorter vocabulary filled up with zeros.

    Which token is which does not enter: 0 for any student that is as sharp as the teacher, so it is only of use
    beside labels. Range [0, 2]. It compares one position with one: pair them first.
    Raises ValueError on examples of another shape and on temperature <= 0.
    Source: Boizard et al., arXiv 2402.12030, and its code (weight 1.5 beside the cross-entropy).
    """
    _checks.positive('temperature', temperature)
    student, teacher = (jnp.moveaxis(x, axis, -1) for x in _rows.widened(student, teacher))
    if student.shape[:-1] != teacher.shape[:-1]:
        raise ValueError(f'student has logits {student.shape}, teacher {teacher.shape}: pair the positions one to one')
    _checks.mask_shape(where, student.shape[:-1])
    size = max(student.shape[-1], teacher.shape[-1])
    s, p = (_falling(jax.nn.softmax(_rows.blanked(x, where) / temperature), size) for x in (student, teacher))
    return _rows.kept(jnp.sum(jnp.abs(s - p), axis=-1), where)


def shared_vocabulary(
    student: Float[Array, '*batch student_classes'],
    teacher: Float[Array, '*batch teacher_classes'],
    *,
    vocab: str = 'error',
    ids: tuple[Int[Array, ' shared'], Int[Array, ' shared']] | None = None,
) -> tuple[Float[Array, '*batch shared'], Float[Array, '*batch shared']]:
    """Logits of both over one vocabulary, to be given to any divergence.

    vocab: 'error' refuses vocabularies of different sizes. 'pad': they are the same but for rows at the end that pad
        the larger embedding and stand for no token: those are left out, which is -inf on both sides. 'intersect':
        the tokens that both have, by `ids` (`kdjax.data.vocabularies.match`); each side is normalised over them.

    Not a loss. Raises ValueError on another `vocab`, on different sizes with 'error', and on 'intersect' without ids.
    """
    _checks.one_of('vocab', vocab, ('error', 'pad', 'intersect'))
    sizes = student.shape[-1], teacher.shape[-1]
    if vocab == 'intersect':
        if ids is None:
            raise ValueError("vocab is 'intersect' without ids: give kdjax.data.vocabularies.match(student, teacher)")
        return student[..., ids[0]], teacher[..., ids[1]]
    if vocab == 'error' and sizes[0] != sizes[1]:
        raise ValueError(
            f"teacher has {sizes[1]} tokens, student {sizes[0]}: pass vocab='pad' where only padding differs, or "
            "'intersect' to compare the tokens that both have"
        )
    return student[..., : min(sizes)], teacher[..., : min(sizes)]


def _falling(probs, size: int):
    """Sorted, largest first, with zeros up to `size`."""
    ranked = -jnp.sort(-probs, axis=-1)
    return jnp.pad(ranked, [(0, 0)] * (probs.ndim - 1) + [(0, size - probs.shape[-1])])
