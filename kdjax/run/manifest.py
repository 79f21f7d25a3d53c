"""The manifest of a checkpoint: the digest of every file, and what the state looks like. Without it, no checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np

from kdjax.record import write_atomically
from kdjax.run.identity import digest

MANIFEST = 'manifest.json'
VERSION = 1


class Damaged(Exception):
    """A checkpoint that is not what was written: `path` is the file or folder, `what` is wrong with it."""

    def __init__(self, path: pathlib.Path, what: str):
        super().__init__(f'{path}: {what}')
        self.path, self.what = path, what


def describe(state: Any) -> dict[str, str]:
    """Every leaf of a pytree: its path and its type, such as `variables/student/params/a: float32[4,8]`."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator='/'): _kind(leaf) for path, leaf in leaves}


def _kind(leaf: Any) -> str:
    return f'{np.dtype(leaf.dtype)}[{",".join(map(str, leaf.shape))}]'


def difference(there: dict[str, str], here: dict[str, str]) -> str | None:
    """The first leaf in which two descriptions differ, in words; None if they are the same."""
    for path in [*here, *(p for p in there if p not in here)]:
        if there.get(path) != here.get(path):
            return f"'{path}' is {there.get(path, 'missing')} there and {here.get(path, 'missing')} in this program"
    return None


def write(folder: pathlib.Path, step: int, leaves: dict[str, str]) -> None:
    """Put every file of the folder on the disk for good and under its digest; the manifest comes last, atomically."""
    files = {name: {'bytes': path.stat().st_size, 'sha256': _settled(path)} for name, path in _files(folder).items()}
    body = {'version': VERSION, 'step': step, 'files': files, 'leaves': leaves}
    write_atomically(folder / MANIFEST, json.dumps({'sha256': digest(body), **body}, indent=1) + '\n')
    for inner in (*(p for p in folder.rglob('*') if p.is_dir()), folder):
        settle_folder(inner)


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    found = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob('*')) if p.is_file()}
    found.pop(MANIFEST, None)
    return found


def _settled(path: pathlib.Path) -> str:
    with path.open('rb') as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, 'sha256').hexdigest()


def settle_folder(folder: pathlib.Path) -> None:
    """Make the names in a folder survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(folder: pathlib.Path, step: int) -> dict[str, Any]:
    """The manifest of a committed step; its files are all there and of the right size. Raises `Damaged`."""
    path = folder / MANIFEST
    if not path.is_file():
        raise Damaged(folder, f'there is no {MANIFEST}: not a checkpoint, or one that was never finished')
    manifest = _parse(path)
    if manifest['step'] != step:
        raise Damaged(path, f'it is the manifest of step {manifest["step"]}, not of {step}')
    for name, file in manifest['files'].items():
        _check_size(folder / name, file['bytes'])
    return manifest


def _parse(path: pathlib.Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
        said = manifest.pop('sha256')
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise Damaged(path, f'it cannot be read ({error})') from error
    if said != digest(manifest):
        raise Damaged(path, 'it does not have its own digest: a byte of it was changed')
    if manifest['version'] != VERSION:
        raise Damaged(path, f'it is of version {manifest["version"]}, this kdjax reads version {VERSION}')
    return manifest


def _check_size(path: pathlib.Path, size: int) -> None:
    if not path.is_file():
        raise Damaged(path, 'the file is missing')
    if path.stat().st_size != size:
        raise Damaged(path, f'it has {path.stat().st_size} bytes instead of {size}')


def check(folder: pathlib.Path, step: int) -> dict[str, Any]:
    """The manifest, after every file of it was read and has its digest. Raises `Damaged`."""
    manifest = read(folder, step)
    for name, file in manifest['files'].items():
        with (folder / name).open('rb') as opened:
            if hashlib.file_digest(opened, 'sha256').hexdigest() != file['sha256']:
                raise Damaged(folder / name, 'its sha256 is not that of the manifest: a byte was changed')
    return manifest
