"""Rounds of repeated random sampling: every step another random subset of all real images, as many of each class."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.algorithms.condensation.learning import Augment
from kdjax.algorithms.condensation.representatives import at_random, held
from kdjax.models.model import Outputs
from kdjax.streams import stream
from kdjax.teachers.teacher import Teacher


def redrawn(count: int, *, real: str = 'real', augment: Augment | None = None) -> Teacher:
    """RS2 with replacement, balanced: `[count * classes, *image]`, each round a draw of its own; tap `label`.

    Rounds of one step: a minibatch is the subset. Within a round no row is drawn twice (of a class with fewer images
    than others, some stand in two rows). real: name in `frozen` of all images, `[rows, classes, *image]`. augment: of
    every image by itself. Raises UserError on a count below 1 and where there are fewer rows.
    Source: RS2, arXiv 2305.18424, algorithm 1, and deepcore/methods/uniform.py (select_balance).
    """
    drawn = held(at_random(count), name='round', count=count, real=real)

    def apply(memory, frozen, view, *, key):
        images = drawn.apply(memory, frozen, view, key=key).prediction
        labels = jnp.broadcast_to(jnp.arange(images.shape[1], dtype=jnp.int32)[None], images.shape[:2])
        seen = images.reshape(-1, *images.shape[2:])
        seen = seen if augment is None else augment(seen, key=stream(key, 'augment'))
        return Outputs(seen, {'label': labels.reshape(-1)})

    def init(frozen, example, variables) -> dict[str, jax.Array]:
        drawn.init(frozen, example, variables)
        return {}

    return Teacher(apply, init)
