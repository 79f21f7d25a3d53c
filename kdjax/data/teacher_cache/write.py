"""Filling a cache: shard by shard, by any number of processes, at any number of attempts."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data.dataset import Batch, Source
from kdjax.data.teacher_cache import codec
from kdjax.data.teacher_cache.plan import (
    MANIFEST,
    PLAN,
    Plan,
    differences,
    digest,
    note_file,
    read_json,
    shard_file,
    write_json,
)
from kdjax.errors import UserError

Answer = Callable[[Batch], Any]
"""The teacher's answers to a batch of rows: `Sparse` or `HiddenStates`, `[batch, length, ...]`; see `answering`."""


def write_cache(
    folder: Path | str,
    source: Source,
    answer: Answer,
    plan: Plan,
    *,
    batch: int = 8,
    process: int = 0,
    processes: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
) -> bool:
    """Fill this process's share of the cache: the shards whose number is `process` modulo `processes`.

    What is finished stays and is not asked again, so the same call goes on after a kill. A shard is there whole or not
    at all, and holds the same bytes whoever writes it, with any number of processes, at the same `batch`.
    on_shard(finished, of): called after each shard of this process.
    Returns whether the whole cache is finished. Raises `UserError` where the folder holds another cache, where the
    source has other rows, and where an answer has another shape.
    """
    folder = Path(folder)
    if len(source) != plan.rows:
        raise UserError(f'the plan has {plan.rows} rows, the split {len(source)}: make the plan for this split')
    if not 0 <= process < processes:
        raise UserError(f'process {process} of {processes}: count them from 0')
    _claim(folder, plan)
    own = range(process, plan.shards, processes)
    for done, shard in enumerate(own, 1):
        if not note_file(folder, shard).exists():
            _write_shard(folder, shard, _rows(source, answer, plan, shard, batch))
        if on_shard is not None:
            on_shard(done, len(own))
    return _seal(folder, plan)


def _claim(folder: Path, plan: Plan) -> None:
    """The plan, written by whoever comes first; the others have to want the same."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / PLAN).exists():
            write_json(folder / PLAN, plan.described())
    except OSError as error:
        raise UserError(f"the cache '{folder}' cannot be made ({error}): choose a folder you own") from error
    changed = differences(read_json(folder / PLAN), plan.described())
    if changed:
        raise UserError(f"'{folder}' holds another cache ({changed}): choose another folder, or repeat its settings")


def _rows(source: Source, answer: Answer, plan: Plan, shard: int, batch: int) -> Iterator[bytes]:
    """The encoded rows of a shard. Its last batch is filled up with its last row: one shape, one compilation."""
    rows = np.asarray(plan.shard_rows(shard), np.int32)
    for start in range(0, len(rows), batch):
        wanted = rows[start : start + batch]
        filled = np.pad(wanted, (0, batch - len(wanted)), mode='edge')
        said = answer(source.take(filled))
        fields = {field.name: np.asarray(getattr(said, field.name)) for field in dataclasses.fields(said)}
        _check(fields, plan, batch)
        for place in range(len(wanted)):
            yield codec.encode(plan.kind, plan.vocabulary, {name: values[place] for name, values in fields.items()})


def _check(fields: dict[str, np.ndarray], plan: Plan, batch: int) -> None:
    got = fields['log_normalizer'].shape
    if got != (batch, plan.length):
        raise UserError(f'the teacher answered {list(got)} [batch, length], the plan has {[batch, plan.length]}')
    if not np.isfinite(fields['log_normalizer']).all():
        raise UserError('the teacher answered logits that are not finite: check its weights and its dtype')
    if 'ids' in fields and fields['ids'].max() >= plan.vocabulary:
        raise UserError(f'the teacher has class {fields["ids"].max()}, the plan a vocabulary of {plan.vocabulary}')
    if fields['entropy'].min() > math.log(plan.vocabulary) - 1e-3:
        warnings.warn('the teacher gives every class the same probability: are its weights loaded?', stacklevel=2)


def _write_shard(folder: Path, shard: int, rows: Iterator[bytes]) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    path = shard_file(folder, shard)
    for left in folder.glob(f'.{path.name}.*.partial'):
        left.unlink(missing_ok=True)
    partial = folder / f'.{path.name}.{os.getpid()}.partial'
    writer = ArrayRecordWriter(str(partial), 'group_size:1,uncompressed')
    count = size = 0
    for row in rows:
        writer.write(row)
        count, size = count + 1, size + len(row)
    writer.close()
    with partial.open('rb') as file:
        os.fsync(file.fileno())
    note = {'rows': count, 'bytes': size, 'size': partial.stat().st_size, 'sha256': digest(partial)}
    os.replace(partial, path)
    write_json(note_file(folder, shard), note)


def _seal(folder: Path, plan: Plan) -> bool:
    """Write the manifest once every shard is there. Several processes may: they write the same."""
    notes = [note_file(folder, shard) for shard in range(plan.shards)]
    if not all(note.exists() for note in notes):
        return False
    shards = [read_json(note) for note in notes]
    spent = sum(shard['bytes'] for shard in shards) / (plan.rows * plan.length)
    write_json(folder / MANIFEST, {**plan.described(), 'bytes_per_token': spent, 'shards': shards})
    return True
