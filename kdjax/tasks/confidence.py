"""What held-out text says of a language model's confidence, and models corrected by it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import losses
from kdjax.data.batches import evaluation_batches
from kdjax.data.dataset import Dataset
from kdjax.data.text_batch import prepare_text
from kdjax.metrics.calibration import reliability
from kdjax.metrics.language import language
from kdjax.models.model import Model, Outputs, Variables
from kdjax.stage import Compute, Output, Train
from kdjax.tasks.language import Language, of_tokens
from kdjax.tasks.task import Bound, Trained

BINS = 10
"""FIRST's."""


def top_k_scale(task: Language, trained: Trained, *, k: int = 5, name: str = 'scale') -> Output:
    """The scale of `losses.recalibrated` with the least calibration error of the likeliest token, on validation text.

    FIRST's search (arXiv 2408.12168): 0.1, 0.2, .. 1, then in steps of 0.02 around the best. A float32 scalar.
    """
    call = functools.partial(_scale, trained.model, task.data, k)
    stage = Compute(
        name=name, module=__name__, config={'model': trained.model.name, 'k': k}, inputs={'model': trained.variables},
        shared=True, call=call, data=task.data, shapes=lambda inputs: {'scale': jax.ShapeDtypeStruct((), np.float32)},
    )  # fmt: skip
    return Output(stage)['scale']


def with_scale(bound: Bound, scale: Output) -> Bound:
    """The teacher with `top_k_scale` at its tap `scale`."""

    def apply(memory, frozen, view, *, key):
        said = bound.teacher.apply(memory, frozen, view, key=key)
        return Outputs(said.prediction, {**said.taps, 'scale': frozen['scale']})

    teacher = dataclasses.replace(bound.teacher, apply=apply, in_dtype=None)
    return dataclasses.replace(bound, teacher=teacher, inputs={**bound.inputs, 'scale': scale})


def tempered(task: Language, arm: Train, *, name: str = 'tempered') -> Compute:
    """The student of an arm with its logits over T, measured; T has the least nll on validation text.

    Temperature scaling (Guo et al., arXiv 1706.04599), by golden section between 1/8 and 8. Measures nll, perplexity,
    accuracy and ece.
    """
    model = task.model(task.student)
    call = functools.partial(_tempered, model, task.data)
    return Compute(
        name=name, module=__name__, config={'model': model.name}, inputs={'model': arm['variables']['student']},
        call=call, data=task.data, shapes=lambda inputs: {'temperature': jax.ShapeDtypeStruct((), np.float32)},
    )  # fmt: skip


def calibration_scale(probs: np.ndarray, hit: np.ndarray) -> float:
    """Of the k largest probabilities `[tokens, k]`, largest first, and whether the first came true: FIRST's scale."""

    def error(scale: float) -> float:
        corrected = np.exp(np.asarray(losses.recalibrated(jnp.asarray(probs), scale))[:, 0])
        return reliability(corrected, hit, bins=BINS).error

    coarse = min((i / 10 for i in range(1, 11)), key=error)
    fine = [coarse + i / 50 for i in range(-4, 5)]
    return min((scale for scale in fine if 0 < scale <= 1), key=error)


def best_temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """Between 1/8 and 8, where mean nll of `logits / T` is least; it is convex in 1/T."""
    ratio, low, high = (5**0.5 - 1) / 2, 0.125, 8.0
    mean = jax.jit(lambda inverse: jnp.mean(losses.cross_entropy(inverse * jnp.asarray(logits), jnp.asarray(label))))
    while high - low > 1e-3:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if mean(left) < mean(right) else (left, high)
    return 2 / (low + high)


def _scale(model: Model, data: Dataset, k: int, inputs: Mapping[str, Variables], *, key: jax.Array):
    logits, label = _said(model, data, 'validation', inputs['model'], key)
    probs, ids = jax.lax.top_k(jax.nn.softmax(logits), k)
    found = calibration_scale(np.asarray(probs), np.asarray(ids)[:, 0] == label)
    return {'scale': np.float32(found)}, {'scale': found}


def _tempered(model: Model, data: Dataset, inputs: Mapping[str, Variables], *, key: jax.Array):
    said = {split: _said(model, data, split, inputs['model'], key) for split in ('validation', 'test')}
    temperature = best_temperature(*said['validation'])

    def measured(logits: np.ndarray, label: np.ndarray) -> dict[str, float]:
        of = of_tokens(jnp.asarray(logits) / temperature, jnp.asarray(label))
        return language({name: np.asarray(x) for name, x in of.items()} | {'where': np.ones(label.shape, bool)})

    metrics = {split: measured(*pair) for split, pair in said.items()}
    return {'temperature': np.float32(temperature)}, {'temperature': temperature, 'metrics': metrics}


def _said(model: Model, data: Dataset, split: str, variables: Variables, key: Any) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels at the tokens of a split that count."""

    @jax.jit
    def logits(variables, batch):
        read = prepare_text(batch)
        given = read['tokens'], read['segment'], read['position']
        said = model.apply(variables, given, key=key, train=False)[0].prediction
        return said, read['label'], read['where']

    kept = [logits(variables, batch) for batch in evaluation_batches(data[split], 64)]
    pairs = [(np.asarray(z)[np.asarray(where)], np.asarray(y)[np.asarray(where)]) for z, y, where in kept]
    said, label = zip(*pairs, strict=True)
    return np.concatenate(said), np.concatenate(label)
