"""A finished cache: opened if it is the one that is meant and whole, and joined to the split it was made for."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data.dataset import Batch, Source
from kdjax.data.teacher_cache import codec
from kdjax.data.teacher_cache.plan import MANIFEST, PLAN, Plan, digest, note_file, plan_of, read_json, shard_file
from kdjax.errors import UserError


def open_cache(
    folder: Path | str, *, teacher: str, data: str, tokenizer: str | None = None, verify: bool = True
) -> Cache:
    """The cache in `folder`, if that teacher made it for that split.

    teacher, data, tokenizer: the identities that the cache must have. verify: read every file once and compare its
    digest; without it sizes alone are compared.
    Raises `UserError` where there is none, where it is not finished, where an identity differs, and where a file is
    missing, of another size or of another content.
    """
    folder = Path(folder)
    if not (folder / PLAN).exists():
        raise UserError(f"'{folder}' holds no teacher cache: write one there first")
    plan = plan_of(read_json(folder / PLAN), folder)
    for what, got, meant in (
        ('teacher', plan.teacher, teacher), ('data', plan.data, data), ('tokenizer', plan.tokenizer, tokenizer),
    ):  # fmt: skip
        if meant is not None and got != meant:
            raise UserError(
                f"the cache '{folder}' was made for another {what}: {got} there, {meant} now; give the {what} it was "
                'made for, or write a cache in another folder'
            )
    _finished(folder, plan)
    manifest = read_json(folder / MANIFEST)
    for shard, note in enumerate(manifest['shards']):
        _whole(shard_file(folder, shard), note, verify)
    return Cache(folder, plan, manifest['bytes_per_token'])


def _finished(folder: Path, plan: Plan) -> None:
    if (folder / MANIFEST).exists():
        return
    missing = [shard for shard in range(plan.shards) if not note_file(folder, shard).exists()]
    rows = sum(len(plan.shard_rows(shard)) for shard in missing)
    raise UserError(
        f"the cache '{folder}' is not finished: {rows} of {plan.rows} rows are missing, in {len(missing)} of "
        f'{plan.shards} shards; run the command that writes it again, it goes on where it stopped'
    )


def _whole(path: Path, note: dict[str, Any], verify: bool) -> None:
    remedy = f'delete it, {path.with_suffix(".json").name} and {MANIFEST}, and write the cache again: the rest stays'
    if not path.exists():
        raise UserError(f"'{path}' is missing: {remedy}")
    if path.stat().st_size != note['size']:
        raise UserError(f"'{path}' has {path.stat().st_size} bytes, not {note['size']}: {remedy}")
    if verify and digest(path) != note['sha256']:
        raise UserError(f"'{path}' is damaged (its sha256 is another): {remedy}")


@dataclasses.dataclass(frozen=True, eq=False)
class Cache:
    """What a teacher said of every row of a split; read at random, safe in threads.

    bytes_per_token: on average, without the padding of files.
    """

    folder: Path
    plan: Plan
    bytes_per_token: float
    _lock: Any = dataclasses.field(default_factory=threading.Lock, init=False, repr=False)
    _readers: dict[int, Any] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return self.plan.rows

    def take(self, indices: np.ndarray) -> Batch:
        """`teacher_ids`, `teacher_probs` `[n, length, slots]` (or `teacher_hidden`), `teacher_log_normalizer`,
        `teacher_entropy` `[n, length]`.
        """
        rows = [self._row(int(index)) for index in np.asarray(indices)]
        return {f'teacher_{name}': np.stack([row[name] for row in rows]) for name in rows[0]}

    def joined(self, source: Source) -> Joined:
        """The split, with what the teacher said of each row as further columns."""
        if len(source) != len(self):
            raise UserError(
                f"the cache '{self.folder}' has {len(self)} rows, the split {len(source)}: join the split that it was "
                'made for'
            )
        return Joined(source, self)

    def _row(self, index: int) -> codec.Row:
        if not 0 <= index < len(self):
            raise UserError(f"row {index} is not in the cache '{self.folder}' of {len(self)} rows")
        shard, place = divmod(index, self.plan.rows_per_shard)
        with self._lock:
            reader = self._reader(shard)
        return codec.decode(self.plan.kind, self.plan.vocabulary, self.plan.length, reader.read([place])[0])

    def _reader(self, shard: int) -> Any:
        from array_record.python.array_record_module import ArrayRecordReader

        if shard not in self._readers:
            self._readers[shard] = ArrayRecordReader(str(shard_file(self.folder, shard)))
        return self._readers[shard]


@dataclasses.dataclass(frozen=True, eq=False)
class Joined:
    """A split and its cache, as one `Source`; it stays on disk."""

    source: Source
    cache: Cache

    @property
    def arrays(self) -> None:
        return None

    def __len__(self) -> int:
        return len(self.source)

    def take(self, indices: np.ndarray) -> Batch:
        return {**self.source.take(indices), **self.cache.take(indices)}
