"""What a language model and its teacher say of each token of a held-out batch, for `kdjax.metrics.language`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses
from kdjax.metrics.language import language
from kdjax.view import View

LOGITS_AT_ONCE = 2**24
"""Of one model: 64 MiB of float32."""

TEACHER = 'teacher_'
"""What is measured of the teacher itself stands under this."""


def token_measures(
    view: View,
    *,
    softcaps: tuple[float | None, float | None] = (None, None),
    vocab: str = 'error',
    ids: tuple[jax.Array, jax.Array] | None = None,
) -> dict[str, jax.Array]:
    """`[batch, time]` each, float32 or bool, from `hidden` and `head` of `student` and `teacher`.

    Of each: nll of the label in nats, hit, confidence (the teacher's as `teacher_nll`, ...). Between them: kl, in nats,
    and agree, over the vocabulary that both have (`losses.shared_vocabulary`). And `where`, which tokens count.

    softcaps: of the student's logits and the teacher's. The teacher's label is `batch.teacher_label` where its ids are
    not the student's.
    """
    label = view['batch.label']
    labels = label, view.batch.get('teacher_label', label)
    hidden = view['student.hidden'], view['teacher.hidden']
    heads = view['student.head'], view['teacher.head']
    tokens, words = label.size, max(len(head) for head in heads)
    rows = tuple(x.reshape(tokens, *x.shape[label.ndim :]) for x in (*hidden, *labels))

    def one(row: tuple[jax.Array, ...]) -> dict[str, jax.Array]:
        logits = tuple(_logits(*each) for each in zip(row[:2], heads, softcaps, strict=True))
        student, teacher = (_of_one(*each) for each in zip(logits, row[2:], strict=True))
        shared = losses.shared_vocabulary(*logits, vocab=vocab, ids=ids)
        return student | {TEACHER + name: value for name, value in teacher.items()} | _between(*shared)

    said = jax.lax.map(one, rows, batch_size=min(tokens, max(1, LOGITS_AT_ONCE // words)))
    return {name: values.reshape(label.shape) for name, values in said.items()} | {'where': view['batch.where']}


def measured(said: Mapping[str, np.ndarray], reference: Any = None) -> dict[str, float]:
    """`kdjax.metrics.language` of the student, and of the teacher under `teacher_`."""
    del reference
    own = {name: values for name, values in said.items() if not name.startswith(TEACHER)}
    theirs = {name.removeprefix(TEACHER): values for name, values in said.items() if name.startswith(TEACHER)}
    of_teacher = language(theirs | {'where': said['where']})
    return language(own) | {TEACHER + name: value for name, value in of_teacher.items()}


def _logits(hidden: jax.Array, head: jax.Array, cap: float | None) -> jax.Array:
    logits = jnp.einsum('d,vd->v', hidden, head, preferred_element_type=jnp.float32)
    return logits if cap is None else cap * jnp.tanh(logits / cap)


def _of_one(logits: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
    highest, total = jnp.max(logits), jax.nn.logsumexp(logits)
    return {
        'nll': total - logits[label],
        'hit': jnp.argmax(logits) == label,
        'confidence': jnp.exp(highest - total),
    }


def _between(student: jax.Array, teacher: jax.Array) -> dict[str, jax.Array]:
    return {
        'kl': losses.kl_forward(student, teacher),
        'agree': jnp.argmax(student) == jnp.argmax(teacher),
    }
