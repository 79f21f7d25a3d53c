"""Arrays that are slow to make, kept in the user's cache folder (`KDJAX_CACHE`, else ~/.cache/kdjax)."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

Arrays = dict[str, np.ndarray]


def cache_folder() -> Path:
    return Path(os.environ.get('KDJAX_CACHE') or Path.home() / '.cache' / 'kdjax')


def cached(key: str, make: Callable[[], Arrays]) -> Arrays:
    """What `make()` returns, read from the cache where it is there and whole.

    `key` must change whenever the result would. Files appear at once or not at all, so several processes may
    race; where the folder cannot be written, the arrays are made every time.
    """
    path = cache_folder() / f'{key}.npz'
    try:
        with np.load(path, allow_pickle=False) as found:
            return dict(found)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        arrays = make()
    with contextlib.suppress(OSError):
        _write(path, arrays)
    return arrays


def _write(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix='.partial')
    try:
        with os.fdopen(handle, 'wb') as file:
            np.savez_compressed(file, **cast(Any, arrays))
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
