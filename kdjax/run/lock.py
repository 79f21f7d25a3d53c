"""One run in one folder: a lock that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from kdjax.errors import UserError
from kdjax.run.group import distributed

NAME = 'lock'


@contextlib.contextmanager
def hold(folder: pathlib.Path) -> Iterator[None]:
    """Hold the folder, which is made if it is not there. Raises `UserError` that names who holds it already.

    Of several processes of one run, the one that writes holds it for all.
    """
    if not distributed.is_writer():
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f'the run folder {folder} cannot be made ({error}): choose another with --out') from error
    try:
        _take(handle, folder)
        yield
    finally:
        os.close(handle)


def _take(handle: int, folder: pathlib.Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(handle, 1000, 0).decode(errors='replace').strip() or 'a process that has just started'
        raise UserError(
            f'the run folder {folder.absolute()} is in use by {holder}: wait for it, end it, or choose another --out'
        ) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f'process {os.getpid()} on {socket.gethostname()}\n'.encode(), 0)
