"""One-for-all distillation: soft cross-entropy with the target class reweighted."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import _checks, _rows


def ofa(
    student: Float[Array, '*batch classes'],
    teacher: Float[Array, '*teacher_batch teacher_classes'],
    labels: Int[Array, '...'],
    *,
    gamma: _checks.Number = 1.0,
    form: Literal['released', 'paper'] = 'released',
    temperature: _checks.Number = 1.0,
    axis: int = -1,
    where: Bool[Array, '...'] | None = None,
) -> Float[Array, '*examples']:
    """OFA: -sum_c w_c log s_c with constant weights from the teacher's p, in nats.

    form 'released': w_c = (p_c + [c = y])^gamma - [c = y]: to be added to a cross-entropy with the labels;
    form 'paper': w_y = (1 + p_y)^gamma, w_c = p_c elsewhere: the cross-entropy is inside, do not add another.
    gamma = 1 makes the released form soft cross-entropy with the teacher, and the paper's that plus
    cross-entropy with the label. The weights carry no gradient and are not normalised: gamma > 1 also scales
    the loss up. temperature: of both softmaxes, without T^2. labels: class ids (for mixed labels, the larger
    part's).

    Range [0, inf), its least value over students is not 0. Raises ValueError on different shapes, labels
    that are not one id for each example, unknown forms, gamma or temperature <= 0.
    Source: OFA-KD, arXiv 2310.19444; its released code (distillers/ofa.py, `ofa_eps` is gamma).
    """
    _checks.one_of('form', form, ('released', 'paper'))
    _checks.positive('temperature', temperature)
    _checks.positive('gamma', gamma)
    student, teacher = _rows.logit_rows(student, teacher, axis, where)
    labels = _rows.label_rows(labels, where, student.shape[:-1])
    target = jax.nn.one_hot(labels, student.shape[-1], dtype=bool)
    p = jax.lax.stop_gradient(jax.nn.softmax(teacher / temperature))
    at_target = jnp.power(1 + p, gamma)
    if form == 'released':
        weights = jnp.where(target, at_target - 1, jnp.power(p, gamma))
    else:
        weights = jnp.where(target, at_target, p)
    log_s = jax.nn.log_softmax(student / temperature)
    return _rows.kept(-jnp.sum(weights * jnp.where(weights > 0, log_s, 0.0), axis=-1), where)
