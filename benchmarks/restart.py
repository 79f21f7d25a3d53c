"""How long a run is away: from the start of a process to its first new step, with a warm compilation cache.

`restart` resumes a run that was stopped by SIGTERM; `four_processes` starts a group by `launch local`. In seconds.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from timing import arguments, conclude

ROOT = pathlib.Path(__file__).parents[1]
RUN = ('run', 'quickstart', '--steps', '1000000', '--teacher-steps', '20', '--evaluations', '1', '--log-every', '1')
LONGEST = 300.0
GOALS = {'restart': '<= 15', 'four_processes': '<= 60'}


def rows(folder: pathlib.Path) -> int:
    """Rows that a run has written."""
    file = folder / 'metrics.jsonl'
    return file.read_bytes().count(b'\n') if file.exists() else 0


@contextlib.contextmanager
def started(command: list[str], environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is asked to stop at the end."""
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(LONGEST)


def to_first_step(command: list[str], folder: pathlib.Path, environ: dict[str, str]) -> float:
    """Seconds from the start of the process to a new row of its run."""
    before, start = rows(folder), time.perf_counter()
    with started(command, environ) as process:
        while rows(folder) <= before:
            if process.poll() is not None or time.perf_counter() - start > LONGEST:
                sys.exit(f'no step was made: {" ".join(command)} ended with {process.poll()}')
            time.sleep(0.02)
        return time.perf_counter() - start


def main() -> None:
    options = arguments(__doc__, repeats=3)
    kdjax = [sys.executable, '-m', 'kdjax.cli.main']
    launch = [sys.executable, '-m', 'launch', 'local', '--procs', '4', '--', *kdjax]
    found: dict[str, list[float]] = {'restart': [], 'four_processes': []}
    with tempfile.TemporaryDirectory() as temporary:
        place = pathlib.Path(temporary)
        environ = {'KDJAX_CACHE': str(place / 'cache')}
        run, group = place / 'run', place / 'group'
        first = to_first_step([*kdjax, *RUN, '--out', str(run)], run, environ)
        print(f'  first start, nothing cached: {first:.1f} s', flush=True)
        for _ in range(1 if options.smoke else options.repeats):
            found['restart'].append(to_first_step([*kdjax, *RUN, '--out', str(run)], run, environ))
            found['four_processes'].append(to_first_step([*launch, *RUN, '--out', str(group)], group, environ))
            print(*(f'  {name} {seconds[-1]:.1f} s' for name, seconds in found.items()), flush=True)
    conclude('restart', ratios={n: statistics.median(s) for n, s in found.items()}, goals=GOALS)


if __name__ == '__main__':
    main()
