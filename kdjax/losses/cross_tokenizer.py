"""Across tokenizers: likelihoods of aligned chunks (ALM), sorted probabilities (ULD), and vocabularies that differ.

ALM from logits, of each side in turn (`kdjax.data.alignment` has the columns):

    log_p = chunk_log_probs(-cross_entropy(logits, label), chunk, chunks=C)
    log_p += last_of_chunks(boundary_log_probs(logits, starts, where), chunk, chunks=C)      # debiased: 'append_space'
    alm(log_p of the student, log_p of the teacher, where=compared)

A chunk may continue differently under two tokenizers ('a' before 'and' is one token here, two there); multiplied by
the probability that a word ends with it, its likelihood means the same to both.
"""

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
    Not a loss. Source: ALM, arXiv 2503.20083.
    """
    (log_probs,) = _rows.widened(log_probs)
    return _by_chunk(jax.ops.segment_sum, jnp.where(chunk >= 0, log_probs, 0.0), chunk, chunks)


def last_of_chunks(
    values: Float[Array, '*batch time'], chunk: Int[Array, '*batch time'], *, chunks: int
) -> Float[Array, '*batch chunks']:
    """The value at the last token of each chunk; 0 for a chunk without tokens. Not a loss."""
    (values,) = _rows.widened(values)
    place = jnp.broadcast_to(jnp.arange(chunk.shape[-1], dtype=jnp.int32), chunk.shape)
    last = _by_chunk(jax.ops.segment_max, place, chunk, chunks)
    found = jnp.take_along_axis(values, jnp.maximum(last, 0), axis=-1)
    return jnp.where(last >= 0, found, 0.0)


def first_of_chunks(
    rows: Float[Array, '*batch time width'], chunk: Int[Array, '*batch time'], *, chunks: int
) -> Float[Array, '*batch chunks width']:
    """The rows, such as logits, at the first label of each chunk; zeros for a chunk without tokens.

    There both sides have read the same text, so that `uld`, or a divergence over a `shared_vocabulary`, compares
    predictions of the same place. Not a loss.
    """
    (rows,) = _rows.widened(rows)
    time = chunk.shape[-1]
    place = jnp.broadcast_to(jnp.arange(time, dtype=jnp.int32), chunk.shape)
    first = _by_chunk(jax.ops.segment_min, place, chunk, chunks)
    found = jnp.take_along_axis(rows, jnp.minimum(first, time - 1)[..., None], axis=-2)
    return jnp.where((first < time)[..., None], found, 0.0)


def boundary_log_probs(
    logits: Float[Array, '*batch time classes'], starts: Bool[Array, ' classes'], where: Bool[Array, '*batch time']
) -> Float[Array, '*batch time']:
    """For each label, the log-probability that what follows it begins a word; 0 where no label that counts follows.

    starts: the tokens that begin with a space, tab or line end, or end the text: `kdjax.data.vocabularies.starts`.
    Not a loss. Source: 'append_space' in the code of arXiv 2503.20083.
    """
    (logits,) = _rows.widened(_rows.blanked(logits, where))
    log_p = jax.nn.log_softmax(logits)
    begins = jnp.broadcast_to(starts, log_p.shape)
    after = jnp.minimum(jax.nn.logsumexp(jnp.where(begins, log_p, -jnp.inf), axis=-1), 0.0)
    return jnp.where(_next(where, False), _next(after, 0.0), 0.0)


def merged_chunks(boundary: Float[Array, '*batch chunks'], *, above: float = 0.1) -> Int[Array, '*batch chunks']:
    """Ids of longer chunks: one closes after a chunk where the teacher expects a boundary with more than `above`.

    boundary: `last_of_chunks` of the teacher's `boundary_log_probs`. `chunk_log_probs` and `last_of_chunks` then take
        the values of chunks in the place of tokens, and these ids.
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


def _by_chunk(collect, values, chunk, chunks: int):
    """`collect` of the values of each chunk, row by row; tokens at -1 are in none."""

    def row(values, ids):
        return collect(values, jnp.where(ids >= 0, ids, chunks), num_segments=chunks)

    flat = jax.vmap(row)(values.reshape(-1, values.shape[-1]), chunk.reshape(-1, chunk.shape[-1]))
    return flat.reshape(*values.shape[:-1], chunks)


def _next(values, last):
    """Each position holds what the next one held."""
    return jnp.concatenate([values[..., 1:], jnp.full_like(values[..., :1], last)], axis=-1)


def _falling(probs, size: int):
    """Sorted, largest first, with zeros up to `size`."""
    ranked = -jnp.sort(-probs, axis=-1)
    return jnp.pad(ranked, [(0, 0)] * (probs.ndim - 1) + [(0, size - probs.shape[-1])])
