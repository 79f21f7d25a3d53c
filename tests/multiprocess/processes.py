"""Several processes on this machine: started together, watched, and never left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence

HERE = pathlib.Path(__file__).parent
KEPT = 'JAX_COMPILATION_CACHE_DIR', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'
"""What tests keep of compilations is not for groups, of which one process writes what the others read."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """How one process ended. code: exit code, negative for a signal; seconds: from its start to its end."""

    code: int
    out: str
    err: str
    seconds: float


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()[1]


class Processes:
    """A running group. `ranks[i]` is its process i; `wait` collects all."""

    def __init__(self, ranks: Sequence[subprocess.Popen[str]], folder: pathlib.Path):
        self.ranks, self.folder, self.start = list(ranks), folder, time.monotonic()

    def wait_for_line(self, line: str, *, rank: int = 0, seconds: float = 60) -> None:
        """Until a process has printed a line that begins so."""
        deadline = time.monotonic() + seconds
        while not any(said.startswith(line) for said in self._read(rank, 'out').splitlines()):
            assert self.ranks[rank].poll() is None, f'rank {rank} ended: {self._read(rank, "err")[-2000:]}'
            assert time.monotonic() < deadline, f'rank {rank} did not say {line!r} in {seconds} s'
            time.sleep(0.05)

    def wait(self, *, seconds: float = 60) -> list[Ended]:
        """How all ended. Fails, with their last words, if one is still there after `seconds`."""
        deadline, ended = time.monotonic() + seconds, [0.0] * len(self.ranks)
        while not all(ended):
            for i, process in enumerate(self.ranks):
                if not ended[i] and process.poll() is not None:
                    ended[i] = time.monotonic() - self.start
            if time.monotonic() > deadline:
                left = [i for i, at in enumerate(ended) if not at]
                raise AssertionError(f'ranks {left} did not end in {seconds} s\n{self._last_words()}')
            time.sleep(0.02)
        return [
            Ended(process.returncode, self._read(i, 'out'), self._read(i, 'err'), ended[i])
            for i, process in enumerate(self.ranks)
        ]

    def signal(self, rank: int, number: signal.Signals) -> None:
        self.ranks[rank].send_signal(number)

    def end(self) -> None:
        for process in self.ranks:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _last_words(self) -> str:
        return '\n'.join(f'rank {i}: {self._read(i, "err")[-2000:]}' for i in range(len(self.ranks)))

    def _read(self, rank: int, stream: str) -> str:
        return (self.folder / f'{rank}.{stream}').read_text(errors='replace')


@contextlib.contextmanager
def group(
    program: str | Sequence[str],
    *,
    folder: pathlib.Path,
    ranks: int = 2,
    devices: int = 1,
    environ: Mapping[str, str] | None = None,
    of_rank: Mapping[int, Mapping[str, str]] | None = None,
    start: Sequence[int] | None = None,
) -> Iterator[Processes]:
    """Start `ranks` processes of `devices` CPU devices on loopback.

    program: Python source, which has to call `distributed.start()`; or the arguments of `kdjax`. environ: variables of
    all, of_rank: of one, an empty value unsets. start: only these ranks. Their output is in `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, '-u', '-m', 'kdjax.cli.main', *program]
    if isinstance(program, str):
        command = [sys.executable, '-u', '-W', 'error', '-c', textwrap.dedent(program)]
    address = f'127.0.0.1:{free_port()}'
    begun = []
    for rank in range(ranks) if start is None else start:
        own = {
            **os.environ,
            **dict.fromkeys(KEPT, ''),
            'JAX_PLATFORMS': 'cpu',
            'PYTHONPATH': os.pathsep.join([str(HERE.parent), str(HERE)]),
            'KDJAX_COORDINATOR': address,
            'KDJAX_PROCESSES': str(ranks),
            'KDJAX_PROCESS': str(rank),
            'KDJAX_DEVICES': str(devices),
            'KDJAX_INIT_TIMEOUT': '60',
            **(environ or {}),
            **(of_rank or {}).get(rank, {}),
        }
        with (folder / f'{len(begun)}.out').open('w') as out, (folder / f'{len(begun)}.err').open('w') as err:
            begun.append(
                subprocess.Popen(
                    command, env={k: v for k, v in own.items() if v != ''}, stdout=out, stderr=err, text=True
                )
            )
    running = Processes(begun, folder)
    try:
        yield running
    finally:
        running.end()


def run(program: str | Sequence[str], *, seconds: float = 60, **given) -> list[Ended]:
    """Start a group and wait for its end; see `group`."""
    with group(program, **given) as running:
        return running.wait(seconds=seconds)
