"""Teachers that run beside the student: one model, several, or any function of the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from kdjax.models.model import Model, Outputs, under
from kdjax.teachers.teacher import Teacher, frozen_rules
from kdjax.view import Reads


def live(model: Model, *, weights: str = 'teacher', reads: Reads = 'batch.image') -> Teacher:
    """A frozen model, applied to the batch as the student sees it. `weights` names its variables in `frozen`.

    reads: the address of its inputs, or several, given as a tuple.
    """

    def apply(memory, frozen, view, *, key):
        outputs, _ = model.apply(frozen[weights], view.inputs(reads), key=key, train=False)
        return outputs

    return Teacher(
        apply, forwards=1, rules=frozen_rules(weights, model),
        in_dtype=lambda dtype: live(under(model, dtype=dtype), weights=weights, reads=reads),
    )  # fmt: skip


def ensemble(members: Mapping[str, Model], *, reads: Reads = 'batch.image') -> Teacher:
    """Several frozen models at once; `members` maps the name of each one's weights in `frozen` to its model.

    The prediction is the logarithm of the mean of their probabilities `[batch, classes]`, which is a set of logits:
    softmax gives the mean back, temperatures apply. Taps: `mean_logits`, and each member's own logits under its name.
    """

    def apply(memory, frozen, view, *, key):
        given = view.inputs(reads)
        said = {n: m.apply(frozen[n], given, key=key, train=False)[0].prediction for n, m in members.items()}
        logits = jnp.stack([z.astype(jnp.float32) for z in said.values()])
        mean = jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(float(len(members)))
        return Outputs(mean, {'mean_logits': jnp.mean(logits, axis=0), **said})

    return Teacher(
        apply, forwards=len(members),
        rules=tuple(rule for name, model in members.items() for rule in frozen_rules(name, model)),
        in_dtype=lambda dtype: ensemble({n: under(m, dtype=dtype) for n, m in members.items()}, reads=reads),
    )  # fmt: skip


def oracle(call: Callable[..., Outputs]) -> Teacher:
    """Any function of the batch: a rule, a known distribution, a table. `call(batch) -> Outputs`."""

    def apply(memory, frozen, view, *, key):
        return call(view.batch)

    return Teacher(apply)
