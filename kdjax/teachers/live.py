"""Teachers that run beside the student: one model, several, or any function of the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.models.model import Model, Outputs, under
from kdjax.teachers.teacher import Teacher, frozen_rules
from kdjax.view import Reads


def live(model: Model, *, weights: str = 'teacher', reads: Reads = 'batch.image') -> Teacher:
    """A frozen model, applied to the batch as the student sees it. `weights` names its variables in `frozen`.

    reads: the address of its inputs, or several, given as a tuple.
    """

    def function(memory, frozen, inputs, *, key):
        outputs, _ = model.apply(frozen[weights], inputs, key=key, train=False)
        return outputs

    return Teacher(
        _of_batch(function, reads), forwards=1, function=function, rules=frozen_rules(weights, model),
        in_dtype=lambda dtype: live(under(model, dtype=dtype), weights=weights, reads=reads),
    )  # fmt: skip


def ensemble(members: Mapping[str, Model], *, reads: Reads = 'batch.image') -> Teacher:
    """Several frozen models at once; `members` maps the name of each one's weights in `frozen` to its model.

    The prediction is the logarithm of the mean of their probabilities `[batch, classes]`, which is a set of logits:
    softmax gives the mean back, temperatures apply. Taps: `mean_logits`, and each member's own logits under its name.
    """

    def function(memory, frozen, given, *, key):
        said = {n: m.apply(frozen[n], given, key=key, train=False)[0].prediction for n, m in members.items()}
        logits = jnp.stack([z.astype(jnp.float32) for z in said.values()])
        mean = jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(float(len(members)))
        return Outputs(mean, {'mean_logits': jnp.mean(logits, axis=0), **said})

    return Teacher(
        _of_batch(function, reads), forwards=len(members), function=function,
        rules=tuple(rule for name, model in members.items() for rule in frozen_rules(name, model)),
        in_dtype=lambda dtype: ensemble({n: under(m, dtype=dtype) for n, m in members.items()}, reads=reads),
    )  # fmt: skip


def closed_form(call: Callable[[Any], Outputs], *, reads: Reads = 'batch.image') -> Teacher:
    """A known function of a network's inputs, e.g. the exact denoiser of a mixture. `call(inputs) -> Outputs`.

    reads: the address of its inputs where it is read rather than called, or several, given as a tuple.
    """

    def function(memory, frozen, inputs, *, key):
        return call(inputs)

    return Teacher(_of_batch(function, reads), function=function)


def _of_batch(function: Callable[..., Outputs], reads: Reads) -> Callable[..., Outputs]:
    """`Teacher.apply`: the function at what stands at these addresses."""

    def apply(memory, frozen, view, *, key):
        return function(memory, frozen, view.inputs(reads), key=key)

    return apply


def oracle(call: Callable[..., Outputs]) -> Teacher:
    """Any function of the batch: a rule, a known distribution, a table. `call(batch) -> Outputs`."""

    def apply(memory, frozen, view, *, key):
        return call(view.batch)

    return Teacher(apply)
