"""The Record: what a verification leaves. JSON, committed under results/, read by the report."""

from __future__ import annotations

import json
import math
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

from kdjax.errors import UserError
from kdjax.experiment import Claim
from kdjax.metrics.paired import paired_interval

VERSION = 1


def judge(c: Claim, left: Sequence[float], right: Sequence[float]) -> dict[str, Any]:
    """The verdict on a claim from paired results, one per seed: a 95 % Student-t interval of left - right.

    reproduced: the interval lies beyond the margin on the claimed side. contrary: on the other side. inconclusive: it
    holds the margin.
    """
    differences = [a - b for a, b in zip(left, right, strict=True)]
    mean, low, high = paired_interval(differences)
    above, below = low > c.margin, high < c.margin
    good, bad = (above, below) if c.sign == '>' else (below, above)
    verdict = 'reproduced' if good else 'contrary' if bad else 'inconclusive'
    return {
        'text': str(c), 'left': c.left, 'right': c.right, 'sign': c.sign, 'metric': c.metric, 'margin': c.margin,
        'differences': differences, 'mean': mean, 'low': low, 'high': high, 'verdict': verdict,
    }  # fmt: skip


def overall(claims: Sequence[dict[str, Any]]) -> str:
    """reproduced if every claim is; contrary if any claim is; else inconclusive."""
    verdicts = {c['verdict'] for c in claims}
    if 'contrary' in verdicts:
        return 'contrary'
    return 'reproduced' if verdicts == {'reproduced'} else 'inconclusive'


def finite(value: Any) -> Any:
    """JSON has no NaN or infinity: null instead, at any depth."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def dumps(record: dict[str, Any]) -> str:
    return json.dumps(finite(record), indent=1, sort_keys=True, allow_nan=False) + '\n'


def write_atomically(path: pathlib.Path, text: str) -> None:
    """The whole file or the old one, whatever happens in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'w') as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def save(record: dict[str, Any], path: pathlib.Path) -> None:
    """Write a record atomically."""
    write_atomically(path, dumps(record))


def load(path: pathlib.Path) -> dict[str, Any]:
    """Read a record; refuses one of another version or that is not a record."""
    try:
        record = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not a record: {error}. Write it anew with 'kdjax verify'") from error
    version = record.get('version') if isinstance(record, dict) else None
    if version != VERSION:
        raise UserError(
            f"{path} is a record of version {version}, this kdjax reads version {VERSION}: write it anew with 'kdjax "
            "verify'"
        )
    return record
