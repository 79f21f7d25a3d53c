"""A set that is made, measured beside its baselines, and kept as a plain file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kdjax.data.condensed import CondensedSet
from kdjax.experiment import Experiment
from kdjax.run import identity
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.run.verify import Verification
from kdjax.stage import Train
from kdjax.tasks.condensed_images import CondensedImages
from kdjax.tasks.condensing import methods
from kdjax.tasks.condensing.method import Made
from kdjax.tasks.condensing.stored import plain


def comparison(
    name: str,
    title: str,
    task: CondensedImages,
    arms: Mapping[str, Train],
    *,
    seeds: int,
    first_seed: int,
    **options: Any,
) -> Verification:
    """What `verify` is asked: all arms, no claims. options: of `Verification`."""
    made = Experiment(title=title, config=task, arms=lambda _: arms, claims=(), seeds=seeds)
    return Verification(name, methods.__name__, made, task, seeds, first_seed, **options)


def made_set(
    task: CondensedImages, made: Made, asked: Verification, store: Store, *, about: Mapping[str, Any]
) -> tuple[CondensedSet, float | None]:
    """The set of the first seed, from the store or made now, with what made it; the seconds of its updates, if any.

    about: JSON; of the provenance, at least `method`.
    """
    executor = Executor(
        store, module=asked.module, base_seed=asked.first_seed, layout=asked.layout, execution=asked.execution
    )
    found = executor.run(made.set.stage, asked.first_seed)
    provenance = {
        'seed': asked.first_seed, 'task': dataclasses.asdict(task), 'artifact': found.digest,
        'code': identity.code(asked.module), 'versions': identity.versions(), **about,
    }  # fmt: skip
    seconds = found.info['cost']['seconds'] if isinstance(made.set.stage, Train) else None
    return plain(task, made, made.set.of(found.arrays), provenance), seconds
