"""A small `kdjax run` for groups, see `paced.py`: how it is started, and what it left and said."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import re
import signal
import time
from collections.abc import Iterator, Mapping

import numpy as np
from processes import Ended, Processes, group

from kdjax.run.manifest import check

STEPS, SAVE_EVERY, LOG_EVERY = 200, 20, 5
SMALL = (
    'quickstart', '--arm', 'kd', '--steps', str(STEPS), '--student', 'mlp-8', '--teacher', 'mlp-16', '--teacher-steps',
    '20', '--evaluations', '2', '--save-every', str(SAVE_EVERY), '--keep', '4', '--log-every', str(LOG_EVERY),
)  # fmt: skip
PAUSE = 0.3
LONG = 120.0
"""Seconds in which a group starts, or ends by itself, on a machine that has other things to do."""


@dataclasses.dataclass(frozen=True)
class Place:
    """What runs share: artifacts, compilations, data; and a folder for what they print."""

    root: pathlib.Path

    @property
    def environ(self) -> dict[str, str]:
        names = {'KDJAX_STORE': 'store', 'JAX_COMPILATION_CACHE_DIR': 'compilations', 'KDJAX_CACHE': 'cache'}
        return {variable: str(self.root / name) for variable, name in names.items()}

    @contextlib.contextmanager
    def started(
        self, out: pathlib.Path, *more: str, ranks: int = 2, pause: float = 0.0,
        faults: Mapping[str, int] | None = None, environ: Mapping[str, str] | None = None, of_rank=None,
    ) -> Iterator[Processes]:  # fmt: skip
        """A group that runs into `out`; it sleeps for `pause` seconds at every row."""
        arguments = [str(pause), 'run', *SMALL, '--out', str(out), *more]
        program = f'import sys, paced; sys.exit(paced.main({arguments!r}))'
        logs = self.root / 'logs' / str(len([*self.root.glob('logs/*')]))
        own = self.environ | {'KDJAX_FAULTS': json.dumps(faults or {})} | dict(environ or {})
        with group(program, folder=logs, ranks=ranks, environ=own, of_rank=of_rank) as running:
            yield running

    def run(self, out: pathlib.Path, *more: str, **given) -> list[Ended]:
        """Start it, and wait for its end."""
        with self.started(out, *more, **given) as running:
            return running.wait(seconds=2 * LONG)


def result(out: pathlib.Path) -> tuple[str, str]:
    """sha256 of the final state, and of the rows."""
    state = json.loads((out / 'result.json').read_text())['state_sha256']
    return state, hashlib.sha256((out / 'metrics.jsonl').read_bytes()).hexdigest()


def losses(out: pathlib.Path) -> np.ndarray:
    rows = [json.loads(line) for line in (out / 'metrics.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows] == list(range(LOG_EVERY, STEPS + 1, LOG_EVERY))
    return np.array([row['student/loss'] for row in rows])


def committed(out: pathlib.Path) -> list[int]:
    """The steps of its checkpoints, each of which is whole; nothing else is there but one temporary folder."""
    there = [path for path in (out / 'checkpoints').iterdir() if path.name.isdecimal()]
    assert len([*(out / 'checkpoints').iterdir()]) <= len(there) + 1
    for path in there:
        check(path, int(path.name))
    return sorted(int(path.name) for path in there)


def said(rank: Ended, word: str) -> list[str]:
    """What follows the word on lines that begin with it."""
    return re.findall(rf'^{word} (.*)$', rank.out, re.M)


def last_row(rank: Ended) -> int:
    return max((int(row.split()[0]) for row in said(rank, 'row')), default=0)


def events(out: pathlib.Path, kind: str) -> list[str]:
    lines = [json.loads(line) for line in (out / 'events.jsonl').read_text().splitlines()]
    return [line['line'] for line in lines if line['event'] == kind]


class Struck:
    """A run into `out` that is struck once a rank has done so many rows since it began: how it ended."""

    def __init__(
        self, place: Place, out: pathlib.Path, rank: int, *numbers: signal.Signals, pause=PAUSE, rows=6.0, ranks=2
    ):
        with place.started(out, pause=pause, ranks=ranks) as running:
            running.wait_for_line('row', rank=rank, seconds=LONG)
            time.sleep(rows * pause)
            for number in numbers:
                running.signal(rank, number)
            at = time.monotonic()
            self.ended = running.wait(seconds=LONG)
            self.seconds = time.monotonic() - at
        self.codes = [each.code for each in self.ended]
        self.began = int(said(self.ended[0], 'resumed')[0])
        self.reached = max(max(map(last_row, self.ended)), self.began)
        self.committed = committed(out)
