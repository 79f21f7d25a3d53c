"""What a cache is meant to hold, and the files that say so."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from kdjax.data.teacher_cache.kinds import Kind, check_kind, described, from_description
from kdjax.errors import UserError

PLAN, MANIFEST = 'plan.json', 'manifest.json'
"""The plan is there from the beginning; the manifest, with every shard and its digest, once all of them are."""

VERSION = 1


@dataclasses.dataclass(frozen=True)
class Plan:
    """A cache of `rows` rows of `length` tokens.

    teacher, data, tokenizer: identities (digests) of the weights, of the split and of the tokenizer. seed: of what is
    drawn. rows_per_shard: rows of a file, the unit that is there whole or not at all.
    """

    kind: Kind
    vocabulary: int
    rows: int
    length: int
    teacher: str
    data: str
    tokenizer: str
    seed: int = 0
    rows_per_shard: int = 1024

    def __post_init__(self) -> None:
        check_kind(self.kind, self.vocabulary)
        if min(self.rows, self.length, self.rows_per_shard) < 1:
            raise UserError(
                f'a cache of {self.rows} rows of {self.length} tokens, {self.rows_per_shard} rows a shard: each has to '
                'be at least 1'
            )

    @property
    def shards(self) -> int:
        return -(-self.rows // self.rows_per_shard)

    def shard_rows(self, shard: int) -> range:
        start = shard * self.rows_per_shard
        return range(start, min(start + self.rows_per_shard, self.rows))

    def described(self) -> dict[str, Any]:
        return {'version': VERSION, **dataclasses.asdict(self), 'kind': described(self.kind)}


def plan_of(description: dict[str, Any], place: Path) -> Plan:
    """The inverse of `Plan.described`; `UserError` for a version that is not known here."""
    if description.get('version') != VERSION:
        found = description.get('version')
        raise UserError(f"'{place}' is of version {found}, this kdjax reads {VERSION}: make it again")
    fields = {field.name: description[field.name] for field in dataclasses.fields(Plan)}
    return Plan(**fields | {'kind': from_description(description['kind'])})


def shard_file(folder: Path, shard: int) -> Path:
    return folder / f'shard-{shard:05d}.array_record'


def note_file(folder: Path, shard: int) -> Path:
    """What is known of a finished shard: `rows`, `bytes` of its rows, `size` and `sha256` of its file."""
    return shard_file(folder, shard).with_suffix('.json')


def digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file, or a `UserError` that names it."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read ({error}): make the cache again in another folder") from None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """The whole file or none, and for good: written beside, flushed to the disk, renamed."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.', suffix='.partial')
    try:
        with os.fdopen(handle, 'w') as file:
            file.write(json.dumps(content, indent=1, sort_keys=True) + '\n')
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """`teacher: 'a' there, 'b' now; ...`, empty where there are none."""
    keys = sorted(old | new)
    return '; '.join(f'{k}: {old.get(k)!r} there, {new.get(k)!r} now' for k in keys if old.get(k) != new.get(k))
