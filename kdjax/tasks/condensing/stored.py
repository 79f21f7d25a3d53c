"""Between a set as stages have it and a plain file that loads anywhere."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax.algorithms.condensation.sets import started
from kdjax.data.condensed import CondensedSet, load_condensed
from kdjax.errors import UserError
from kdjax.models.model import Variables
from kdjax.stage import Compute, Output
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing.method import Made


def plain(task: CondensedImages, made: Made, variables: Variables, provenance: Mapping[str, Any]) -> CondensedSet:
    """The set on the scale of the data, row i of class i mod classes; mosaics as they are stored."""
    data, params = task.data, variables['params']
    seen = np.asarray(params['image'], np.float32)
    flat = seen.reshape(-1, *seen.shape[2:])
    mean, std = (np.asarray(v, np.float32) for v in (data.mean, data.std))
    about = {
        'dataset': data.name, 'identity': data.identity, 'per_class': task.per_class, 'factor': made.factor,
        'class_names': list(data.class_names),
    }  # fmt: skip
    soft = np.asarray(jax.nn.softmax(params['label_logits'])) if made.soft_labels else None
    return CondensedSet(
        image=flat * std + mean,
        label=np.tile(np.arange(data.classes, dtype=np.int32), task.per_class),
        mean=tuple(map(float, data.mean)),
        std=tuple(map(float, data.std)),
        provenance={**about, **provenance},
        soft_label=None if soft is None else soft.reshape(-1, data.classes),
        rate=float(np.exp(params['log_rate'])) if 'log_rate' in params else None,
    )


def stored(task: CondensedImages, path: Path) -> tuple[CondensedImages, Made]:
    """A set from a file, to be measured, and the task at its size.

    Raises UserError on a file that is none, is of other data, or has not as many images of every class.
    """
    found = load_condensed(path, dataset=task.data)
    counts = np.bincount(found.label, minlength=task.data.classes)
    if len(set(counts.tolist())) > 1:
        raise UserError(
            f"'{path}' has {counts.min()} to {counts.max()} images of a class: sets are measured with as many of each"
        )
    sized = task.at(int(counts[0]))
    order = np.argsort(found.label, kind='stable').reshape(task.data.classes, -1).T
    logits = None if found.soft_label is None else np.log(np.maximum(found.soft_label, 1e-12))[order]
    variables = started(found.seen[order], logits=logits, rate=found.rate)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    stage = Compute(
        name=f'stored_{digest[:12]}', module=__name__, config={'sha256': digest}, data=task.data,
        call=functools.partial(_read, jax.device_get(variables)),
    )  # fmt: skip
    factor = int(found.provenance.get('factor', 1))
    return sized, Made(Output(sized.once(stage)), found.soft_label is not None, found.rate, factor)


def _read(variables: Variables, inputs: Any, *, key: jax.Array) -> Variables:
    del inputs, key
    return variables
