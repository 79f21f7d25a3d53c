"""What the generators of a verification made, kept in the store for the report: a record holds numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.record import finite
from kdjax.run import identity
from kdjax.run.group import distributed
from kdjax.run.stages import Executor
from kdjax.stage import Artifact, Output, Train

VERSION = 1
SAMPLE, SCENE = 'sample', 'picture'
"""What evaluation calls samples, `sample_4` those of four steps, and what it calls pictures of scenes."""


def address(record: Mapping[str, Any]) -> str:
    """Where the store has the pictures of a verification: known from its numbers, whatever machine reads them."""
    seed = {name: {m: values[:1] for m, values in arm['metrics'].items()} for name, arm in record['arms'].items()}
    told = {name: record[name] for name in ('experiment', 'split', 'seeds')}
    return identity.digest(finite({'pictures': VERSION, 'arms': seed, **told}))


def keep(record: Mapping[str, Any], task: Any, arms: Mapping[str, tuple[Any, Artifact]], executor: Executor) -> None:
    """Keep a few samples of every arm, and the teacher's from the same noise; nothing where no arm makes any.

    task: the configuration of the experiment. arms: the last stage of each, and what it left at the first seed.
    """
    split, seed, place = record['split'], record['seeds'][0], address(record)
    made = {name: found for name, (_, artifact) in arms.items() if (found := _made(artifact, split))}
    if not made or not distributed.is_writer() or executor.store.has(place):
        return
    learned = {name: arms[name] for name in made if isinstance(arms[name][0], Train)}
    executor.store.put(place, *_pictures(task, made, learned, split, seed, executor))


def _made(artifact: Artifact, split: str) -> dict[str, np.ndarray]:
    """Samples `[rows, 2]` or `[rows, height, width, channels]` of an arm, by name."""
    arrays = artifact.arrays
    said = arrays.get('predictions', {}).get(split, {})
    found = {name: values for name, values in said.items() if name.partition('_')[0] == SAMPLE}
    if SCENE in said:
        found = {SAMPLE: said[SCENE]}
    if not found and isinstance(drawn := arrays.get('samples'), Mapping) and split in drawn:
        found = {SAMPLE: drawn[split]}
    return {name: np.asarray(values) for name, values in found.items() if _is_seen(values)}


def _is_seen(values: Any) -> bool:
    return np.ndim(values) == 4 or (np.ndim(values) == 2 and np.shape(values)[1] == 2)


def _pictures(
    task: Any,
    made: Mapping[str, Mapping[str, np.ndarray]],
    learned: Mapping[str, tuple[Train, Artifact]],
    split: str,
    seed: int,
    executor: Executor,
) -> tuple[dict[str, Any], dict[str, Any]]:
    from kdjax.tasks import pictures  # every task of generators, of which other verifications need none

    source = task.data[split]
    label = _labels(source, [artifact for _, artifact in learned.values()], split)
    rows = pictures.rows_shown(next(iter(next(iter(made.values())).values())), label)
    arms = {arm: _seen(arm, lambda x: pictures.as_seen(task, x[rows]), found) for arm, found in made.items()}
    arrays: dict[str, Any] = {'arms': arms, 'label': label[rows]}
    if not learned:
        return arrays, {'seed': seed}

    def read(output: Output) -> Any:
        return _on_device(output.of(executor.store.get(executor.digest(output.stage, seed)).arrays))

    student = _on_device(next(iter(learned.values()))[1].arrays['variables']['student'])
    teachers = tuple(stage.inputs['teacher'] for stage, _ in learned.values() if 'teacher' in stage.inputs)
    shown = pictures.Shown(source.take(rows), jax.random.key(seed), student, teachers, read)
    if (taught := pictures.of_teacher(task, shown)) is None:
        return arrays, {'seed': seed}
    return arrays | {'teacher': pictures.as_seen(task, taught[0])}, {'seed': seed, 'teacher': taught[1]}


def _seen(arm: str, seen: Callable[[np.ndarray], np.ndarray], found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    try:
        return {name: seen(x) for name, x in found.items()}
    except Exception as error:
        error.add_note(f"arm '{arm}'")
        raise


def _on_device(variables: Any) -> Any:
    """A table of numpy cannot be read at a traced class."""
    return jax.tree.map(jnp.asarray, variables)


def _labels(source: Any, learned: Sequence[Artifact], split: str) -> np.ndarray:
    """The condition of each row where arms are told one that is not its label, else its label."""
    for artifact in learned:
        said = artifact.arrays['predictions'][split]
        if 'condition' in said:
            return np.asarray(said['condition'])
    rows = source.take(np.arange(len(source)))
    return np.asarray(rows['label']) if 'label' in rows else np.zeros(len(source), np.int32)
