"""FYI: while it is matched, every image of the set stands beside its mirror image, which is not stored."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from kdjax.errors import unknown
from kdjax.metrics.condensation import asymmetry
from kdjax.stage import Compute, Output
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.matched import dm
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.trajectories import mtt

HOSTS = {'dm': dm, 'mtt': mtt}


def fyi(task: CondensedImages, *, host: str = 'dm') -> Made:
    """A host whose synthetic images enter with their mirror images, before the augmentation; its loss is unchanged.

    A step costs twice as much on the synthetic side. Networks learn from the set alone, without the mirror images
    unless the recipe flips. For data whose mirror images keep their labels: on digits it teaches what never occurs.
    host: 'dm' or 'mtt'. Raises UserError on another. Source: arXiv 2407.08113, section 3, and its BatchAug.
    """
    if host not in HOSTS:
        raise unknown('host of FYI', host, HOSTS)
    return HOSTS[host](task, mirrored=True, name=f'{host}_fyi')  # type: ignore[operator]


def asymmetric(made: Made, *, name: str) -> Output:
    """`metrics.condensation.asymmetry` of a set's images, a number: a fact of the arm `name`."""
    stage = Compute(
        name=f'asymmetry_{name}', module=__name__, config={}, inputs={'set': made.set}, call=_asymmetric,
        shapes=lambda inputs: {'asymmetry': jax.ShapeDtypeStruct((), np.float32)},
    )  # fmt: skip
    return Output(stage, ('asymmetry',))


def _asymmetric(inputs: Any, *, key: jax.Array) -> dict[str, np.ndarray]:
    del key
    return {'asymmetry': np.asarray(asymmetry(np.asarray(inputs['set']['params']['image'])), np.float32)}
