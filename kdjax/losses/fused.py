"""Divergences between the words of two language models, from hidden states and heads: no `[tokens, vocabulary]` array.

Logits are made for a chunk of tokens at a time, and the gradient is taken in the same pass: four matrix products for a
student and a live teacher where a backward pass that makes the logits again needs six.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from . import _checks, _fused_blocks, _fused_rows, _rows
from ._fused_rows import in_precision, product, wide
from .pointwise import Pointwise, kl_forward

LOGITS_AT_ONCE = {'cpu': 2**25}
"""How many logits of a model a chunk holds where the caller does not say: 128 MiB of float32."""

ON_ACCELERATORS = 2**28
"""The same there: 1 GiB. Measured on an H200, 49152 words, a step of 126 ms; with 2**25 of 130 ms."""

WORDS_AT_ONCE = {'cpu': 2**12}
"""Words that the gradient passes at once. XLA's CPU backend makes a product first and adds it then: the whole head's
would be a second gradient, in memory and through it, and a sum over all words is half as fast. Elsewhere all."""


def fused_divergence(
    student_hidden: Float[Array, '*batch width'],
    student_head: Float[Array, 'vocabulary width'],
    label: Integer[Array, '*batch'],
    *teachers: Float[Array, ...],
    divergence: Pointwise = kl_forward,
    weights: tuple[float, ...] | None = None,
    hard_weight: float | int = 0.0,
    temperature: float | int = 1.0,
    t_squared: bool = False,
    softcaps: tuple[float | None, ...] | None = None,
    vocabulary: int | None = None,
    chunk: int | None = None,
    words_at_once: int | None = None,
    precision: str = 'float32',
    where: Bool[Array, ...] | None = None,
) -> Float[Array, '*batch']:
    """sum_j weight_j D(p_j, s) + hard_weight (-log s_label), one value in nats for each token, in float32.

    s = softmax(student_hidden @ student_head.T), p_j likewise of the teachers, both accumulated in float32 whatever the
    inputs (float64 stays); D at `temperature`, the cross-entropy at 1. Gradients reach `student_hidden` and
    `student_head` alone. They are taken in the forward pass for a cotangent that is the same for all tokens that count,
    as behind any masked mean or sum; under any other the backward pass makes the logits again.

    Args:
        teachers: hidden states and head of each teacher in turn: `hidden, head, hidden, head`; widths are their own.
        divergence: of `kdjax.losses.pointwise`, e.g. `kl_reverse`, `jsd(0.1, 'continuous')`, `skew_kl(0.1)`.
        weights: one for each teacher; 1 each unless given.
        hard_weight: of the labels, where a teacher is mixed with them; without teachers give it 1.
        t_squared: multiplies D by T^2, as in Hinton's term.
        softcaps: logits become cap * tanh(logits / cap); of the student and each teacher, None where there is none.
        vocabulary: how many entries of the heads are words; the others are padding, -inf on both sides.
        chunk: tokens whose logits are held at once.
        words_at_once: words of these, for a vocabulary that is too large for even a few tokens: the logits are then
            made three times. All at once unless given; on several devices that share the words, of each device.
        precision: of logits, softmax and slope. float32 leaves an error of about 1e-7 of the logits in the slope s - p,
            so of 1e-4 or 1e-3 of the gradient once student and teacher differ by a hundredth or a thousandth; float64
            keeps 1e-6 there, at the speed that the device has for it.
        where: the tokens that count; what the others hold reaches no value and no gradient.

    Raises ValueError on shapes that do not fit, heads of different vocabularies, temperature <= 0, an unknown precision
    and odd teachers.
    Source: the divergences' own; the reduction is left to the caller, over the tokens of the whole batch.
    """
    _checks.positive('temperature', temperature)
    pairs = _paired(student_hidden, student_head, label, teachers)
    _checks.mask_shape(where, label.shape)
    words = student_head.shape[0] if vocabulary is None else vocabulary
    _checks.between('vocabulary', words, 1, student_head.shape[0])
    _checks.one_of('precision', precision, ('float32', 'float64'))
    if words_at_once is not None:
        _checks.between('words_at_once', words_at_once, 1, student_head.shape[0])
    setting = _fused_rows.Setting(
        divergence, _one_each('weights', weights, 1.0, len(pairs)), float(hard_weight), float(temperature),
        float(temperature) ** 2 if t_squared else 1.0, _one_each('softcaps', softcaps, None, len(pairs) + 1), words,
        min(chunk or _tokens_at_once(words_at_once or student_head.shape[0]), label.size), words_at_once, precision,
    )  # fmt: skip
    mask = jnp.ones(label.shape, bool) if where is None else where

    def rows(x, *shape):
        return _rows.blanked(x, where).reshape(label.size, *shape)

    taught = tuple((jax.lax.stop_gradient(rows(h, -1)), jax.lax.stop_gradient(w)) for h, w in pairs)
    values = _values(setting, rows(student_hidden, -1), student_head, rows(label), taught, mask.reshape(-1))
    return values.reshape(label.shape)


def _tokens_at_once(vocabulary: int) -> int:
    return max(1, LOGITS_AT_ONCE.get(jax.default_backend(), ON_ACCELERATORS) // vocabulary)


def _paired(hidden, head, label, teachers):
    if len(teachers) % 2:
        raise ValueError(f'{len(teachers)} arrays of teachers: give hidden states and head of each in turn')
    pairs = tuple(zip(teachers[::2], teachers[1::2], strict=True))
    for i, (h, w) in enumerate(((hidden, head), *pairs)):
        who = f'teacher {i}' if i else 'student'
        if h.shape[:-1] != label.shape or h.shape[-1] != w.shape[-1]:
            raise ValueError(
                f'{who}: hidden states {h.shape}, head {w.shape}, labels {label.shape}: hidden states are '
                '[*labels, width], a head [vocabulary, width]'
            )
        if w.shape[0] != head.shape[0]:
            raise ValueError(
                f'{who} has {w.shape[0]} words, the student {head.shape[0]}: cut or pad one head to the other where '
                'only padding differs, or use a loss across tokenizers'
            )
    return pairs


def _one_each(name, given, default, count):
    given = (default,) * count if given is None else tuple(given)
    if len(given) != count:
        raise ValueError(f'{name} has {len(given)} entries where {count} are needed')
    return given


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _values(setting, hidden, head, label, taught, where):
    value = in_precision(setting, _by_words(setting)[0] if setting.words_at_once else _whole(setting)[0])

    def one(_, rows):
        return None, value(head, taught, rows)

    return _joined(jax.lax.scan(one, None, _dealt(setting, head, hidden, label, taught, where))[1], len(label))


def _forward(setting, hidden, head, label, taught, where):
    weights = where.astype(wide(hidden, head))
    rows = _dealt(setting, head, hidden, label, taught, where, weights)
    shape, _ = _words_dealt(len(head))
    start = (
        jnp.zeros(rows[1].shape, weights.dtype),
        jnp.zeros(rows[0].shape, weights.dtype),
        jnp.zeros((*shape, head.shape[1]), weights.dtype),
    )
    values, *gradients = _passed(setting, head, taught, rows, start, len(rows[0]))
    return _joined(values, len(label)), (gradients, hidden, head, label, taught, where)


def _backward(setting, kept, cotangent):
    """The gradient that is there, scaled, and no chunk more; where that is not it, all chunks once more, from zero.

    One loop, of none or all chunks: so a gradient of the head's size is changed in place, where branches would copy it.
    """
    (of_hidden, of_head), hidden, head, label, taught, where = kept
    common = jnp.max(jnp.where(where, cotangent, -jnp.inf))
    common = jnp.where(jnp.any(where), common, 0.0)
    same = jnp.all(jnp.where(where, cotangent == common, True))
    rows = _dealt(setting, head, hidden, label, taught, where, jnp.where(where, cotangent, 0.0))
    start = jax.tree.map(lambda g: jnp.where(same, common * g, 0.0), (of_hidden, of_head))
    values, chunks = jnp.zeros(rows[1].shape, common.dtype), jnp.where(same, 0, len(of_hidden))
    _, of_hidden, of_head = _passed(setting, head, taught, rows, (values, *start), chunks)
    of_hidden, of_head = _joined(of_hidden, len(label)), of_head.reshape(head.shape)
    nothing = jax.tree.map(jnp.zeros_like, taught)
    return of_hidden.astype(hidden.dtype), of_head.astype(head.dtype), None, nothing, None


_values.defvjp(_forward, _backward)


def _passed(setting, head, taught, rows, start, chunks):
    """(values, gradient of sum_i weight_i value_i in the hidden states, in the head) after so many chunks from `start`.

    The first two are set, chunk by chunk as they are dealt; the head's is added to.
    """
    put = jax.lax.dynamic_update_index_in_dim
    step = in_precision(setting, _by_words(setting)[1] if setting.words_at_once else _whole(setting)[1])

    def one(i, carry):
        values, of_hidden, of_head = carry
        *here, weight = jax.tree.map(lambda x: x[i], rows)
        value, of_rows, of_head = step(head, taught, here, weight, of_head)
        return put(values, value, i, 0), put(of_hidden, of_rows, i, 0), of_head

    return jax.lax.fori_loop(0, chunks, one, start)


def _whole(setting):
    """The values of a chunk, and (values, gradient in its hidden states, the head's with it): a vocabulary at once."""

    def value(head, taught, rows):
        return _fused_rows.values(setting, head, taught, rows)

    def step(head, taught, rows, weight, of_head):
        value, slope = _fused_rows.slopes(setting, head, taught, rows, weight)
        return value, *_through_head(slope.astype(rows[0].dtype), head, rows[0], of_head)

    return value, step


def _by_words(setting):
    """The same, by blocks of words."""

    def blocks(head, taught, rows):
        shape, _ = _words_dealt(len(head))
        heads = tuple(w.reshape(*shape, w.shape[1]) for w in (head, *(w for _, w in taught)))
        return _fused_blocks.Blocks(setting, heads, rows)

    def value(head, taught, rows):
        return _fused_blocks.values(blocks(head, taught, rows))

    def step(head, taught, rows, weight, of_head):
        return _fused_blocks.added(blocks(head, taught, rows), weight, of_head)

    return value, step


def _through_head(slope, head, hidden, of_head):
    """(slope @ head, of_head + slope^T @ hidden), a block of words of each part at a time."""
    *parts, words, width = of_head.shape
    axis, blocks = len(parts), _words_dealt(len(head))[1]
    size = words // blocks
    head, slope = head.reshape(of_head.shape), slope.reshape(-1, *parts, words)

    def block(i, carry):
        of_rows, of_head = carry
        slopes, words_here, before = (
            jax.lax.dynamic_slice_in_dim(x, i * size, size, at)
            for x, at in ((slope, axis + 1), (head, axis), (of_head, axis))
        )
        of_rows = of_rows + product('n...v,...vd->...nd', slopes, words_here)
        after = before + product('n...v,nd->...vd', slopes, hidden)
        return of_rows, jax.lax.dynamic_update_slice_in_dim(of_head, after, i * size, axis)

    start = jnp.zeros((*parts, len(hidden), width), of_head.dtype)
    of_rows, of_head = jax.lax.fori_loop(0, blocks, block, (start, of_head))
    return jnp.sum(of_rows, axis=tuple(range(axis))), of_head


def _words_dealt(words):
    """(`[*parts, words]`, how many blocks of each part): as many parts as devices that may share the words.

    Blocks are equal; a vocabulary of no fitting divisor is one block.
    """
    parts = math.gcd(words, jax.device_count())
    each = words // parts
    fewest = math.ceil(each / WORDS_AT_ONCE.get(jax.default_backend(), each))
    return (parts, each) if parts > 1 else (each,), next((n for n in range(fewest, 8 * fewest) if each % n == 0), 1)


def _sizes(tokens, chunk, words):
    """How many chunks, and of how many tokens: equal parts, rounded up to what the maths of a chunk takes at once."""
    size = math.ceil(tokens / math.ceil(tokens / chunk))
    few = _fused_rows.rows_at_once(words)
    if few is not None and size > few:
        size = math.ceil(size / few) * few
    return math.ceil(tokens / size), size


def _dealt(setting, head, hidden, label, taught, where, *weights):
    """Rows in chunks, dealt like cards so that each holds a part of what every device has, and padded with none."""
    count, size = _sizes(len(label), setting.chunk, len(head))

    def deal(x):
        padded = jnp.pad(x, ((0, size * count - len(x)), *((0, 0),) * (x.ndim - 1)))
        return jnp.swapaxes(padded.reshape(size, count, *x.shape[1:]), 0, 1)

    return jax.tree.map(deal, (hidden, label, tuple(h for h, _ in taught), where, *weights))


def _joined(chunks, length):
    """The inverse of `_dealt`."""
    return jnp.swapaxes(chunks, 0, 1).reshape(-1, *chunks.shape[2:])[:length]
