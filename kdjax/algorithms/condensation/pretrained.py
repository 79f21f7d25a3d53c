"""Networks trained beforehand: what lies between their start and their end, and a set that the end should classify."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.algorithms.condensation.matching import Augment
from kdjax.algorithms.condensation.sets import flat
from kdjax.models.model import Model, Outputs, Variables
from kdjax.streams import stream
from kdjax.teachers.teacher import Teacher


def between(experts: str) -> Teacher:
    """A network l theta_first + (1 - l) theta_last with l uniform in [0, 1], another at every step, as its variables.

    experts: name in `frozen` of a buffer `[count, epochs + 1, ...]` of parameters (`experts.expert`), of which the
    first and the last epoch are read. Tap: `trained`, the variables of the same network at its end.
    Source: NCFM, arXiv 2502.20653, and its utils.py (update_feature_extractor).
    """

    def apply(memory, frozen, view, *, key):
        del memory, view
        buffer = frozen[experts]
        number = jax.tree.leaves(buffer)[0].shape[0]
        which = jax.random.randint(stream(key, 'expert'), (), 0, number, jnp.int32)
        share = jax.random.uniform(stream(key, 'share'), (), jnp.float32)
        first, last = (jax.tree.map(lambda leaf, at=at: leaf[which, at], buffer) for at in (0, -1))
        mixed = jax.tree.map(lambda a, b: share * a + (1 - share) * b, first, last)
        return Outputs({'params': mixed, 'stats': {}}, {'trained': {'params': last, 'stats': {}}})

    return Teacher(apply)


def calibration(
    images: jax.Array,
    labels: jax.Array,
    variables: Variables,
    *,
    model: Model,
    key: jax.Array,
    augment: Augment | None = None,
) -> jax.Array:
    """Cross-entropy of a constant, trained network on the augmented set, one value for each image.

    images, labels: `[per_class, classes, ...]`. Source: NCFM.py (cailb_loss), whose images take a step of their own
    for it after the one of matching.
    """
    if augment is not None:
        images = augment(images, key=stream(key, 'augment'))
    seen, said = flat(images, labels)
    constants = jax.lax.stop_gradient(variables)
    outputs, _ = model.apply(constants, seen, key=stream(key, 'forward'), train=False)
    return losses.cross_entropy(outputs.prediction, said)
