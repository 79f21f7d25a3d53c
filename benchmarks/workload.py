"""What the benchmarks train: a student on random images, on labels or distilled, in kdjax's loop."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax
from timing import Contestant

from kdjax.algorithms.algorithm import Algorithm
from kdjax.algorithms.players import supervised
from kdjax.data.augment import prepare
from kdjax.data.dataset import ArraySource
from kdjax.models.model import Model
from kdjax.models.named import named
from kdjax.objectives import hard_labels, kl
from kdjax.run.fit import Events, fit
from kdjax.run.program import Program
from kdjax.teachers import Teacher

CLASSES = 10
SEED = 0
MEAN, STD = (0.5,) * 3, (0.25,) * 3
WEIGHT, TEMPERATURE = 9.0, 4.0
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-4


def images(examples: int, size: int) -> ArraySource:
    """Random uint8 images `[examples, size, size, 3]` with random labels: only shapes matter here."""
    draw = np.random.default_rng(SEED)
    image = draw.integers(0, 256, (examples, size, size, 3), dtype=np.uint8)
    label = draw.integers(0, CLASSES, examples).astype(np.int32)
    return ArraySource({'image': image, 'label': label})


def model(spec: str, size: int) -> Model:
    """A model by name, for these images."""
    return named(spec, classes=CLASSES, image_shape=(size, size, 3))


def on_labels(student: Model) -> Algorithm:
    """Cross-entropy, AdamW."""
    return supervised(student, hard_labels(), optimizer(), prepare=normalise)


def distilled(student: Model, teacher: Teacher) -> Algorithm:
    """The same, and KD at temperature 4 with the weight 9."""
    objective = hard_labels() + WEIGHT * kl(temperature=TEMPERATURE)
    return supervised(student, objective, optimizer(), teachers={'teacher': teacher}, prepare=normalise)


def optimizer() -> optax.GradientTransformation:
    return optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)


def normalise(batch: Any, *, key: jax.Array, train: bool) -> dict[str, Any]:
    return {**batch, 'image': prepare(batch['image'], mean=MEAN, std=STD)}


def random_logits(source: ArraySource) -> dict[str, jax.Array]:
    """A cache of teacher outputs `[examples, classes]`."""
    logits = np.random.default_rng(SEED).standard_normal((len(source), CLASSES), np.float32)
    return {'teacher': jax.device_put(logits)}


def kdjax_loop(algorithm: Algorithm, source: ArraySource, *, batch: int, frozen: Any) -> Contestant:
    """`fit` as `kdjax run` calls it: chunks, metrics checked every 50 steps. Compilation is not counted."""
    program = Program(algorithm)

    def run(steps: int) -> float:
        fitted = fit(program, source, batch=batch, steps=steps, seed=SEED, frozen=frozen, events=Events())
        return fitted.seconds

    return run
