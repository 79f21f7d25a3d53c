"""Which processes of a local job are still there, told from others that got the same number later."""

from __future__ import annotations

import contextlib
import os
import pathlib

from launch.job import Job

PROC = pathlib.Path('/proc')


def launcher_of(job: Job) -> int | None:
    """The process id of the `python -m launch` that runs the job now."""
    pid = job.handle.get('launcher')
    return pid if pid and alive(pid) and _said(pid, 'cmdline', 'launch') else None


def ranks_of(job: Job) -> list[int]:
    """Process ids of the job's ranks that run now."""
    mark = f'KDJAX_LAUNCH_ID={job.id}'
    return [pid for pid in job.handle.get('ranks', ()) if alive(pid) and _said(pid, 'environ', mark)]


def alive(pid: int) -> bool:
    """Is there such a process, and not just its exit code waiting to be read?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / 'stat').read_text().rpartition(')')[2].split()[0] not in ('Z', 'X')
    return True


def _said(pid: int, file: str, word: str) -> bool:
    """Does /proc have the word there? Where there is no /proc the number has to do."""
    if not PROC.is_dir():
        return True
    try:
        words = (PROC / str(pid) / file).read_bytes().split(b'\0')
    except OSError:
        return False
    return any(word.encode() in said for said in words)
