"""A run in its folder, here or in a process of its own: `python one_run.py FOLDER '{"kind": "logit"}'`."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time

TESTS = pathlib.Path(__file__).parents[1]
"""Of this checkout, whatever is installed: a new process has to run the code of the test that starts it."""

sys.path[:0] = [place for place in (str(TESTS), str(TESTS.parent)) if place not in sys.path]

from kinds import KINDS  # noqa: E402
from tiny import dataset  # noqa: E402

from kdjax.run import lock  # noqa: E402
from kdjax.run.checkpoints import Checkpoints, Policy  # noqa: E402
from kdjax.run.fit import Ask, fit  # noqa: E402
from kdjax.run.folder import Folder  # noqa: E402
from kdjax.run.identity import state_digest  # noqa: E402
from kdjax.run.preemption import PREEMPTED, Preempted, Preemption  # noqa: E402
from kdjax.run.program import Program  # noqa: E402
from kdjax.run.session import Session  # noqa: E402
from kdjax.run.watchdog import Watchdog  # noqa: E402

SOURCE = dataset()['train']
STEPS = 20


class Seen(Program):
    """A program that writes down which examples each step saw."""

    def __init__(self, algorithm, **options):
        super().__init__(algorithm, **options)
        self.batches = []

    def run(self, state, frozen, data, rows, key):
        self.batches += rows.tolist()
        return super().run(state, frozen, data, rows, key)


@functools.cache
def program_of(kind) -> Seen:
    """The compiled program of a kind, one for all tests."""
    return Seen(KINDS[kind][0](), chunk=4)


@dataclasses.dataclass
class Ran:
    """What a call of `train` came to."""

    state: object
    batches: list
    lines: list
    stopped: bool

    @property
    def digest(self) -> str:
        return state_digest(self.state)


def train(
    folder,
    *,
    kind='logit',
    algorithm=None,
    program=None,
    source=SOURCE,
    steps=STEPS,
    stop_at=None,
    log_every=3,
    save_every=0,
    keep=2,
    keep_every=0,
    resume='auto',
    asynchronous=True,
    rollbacks=0,
    pause=0.0,
    on_row=lambda step, row: None,
):
    """Train to the end, or until a signal or `stop_at`; the loop sleeps for `pause` seconds at every row."""
    frozen = KINDS[kind][1]
    program = program or (Seen(algorithm, chunk=4) if algorithm else program_of(kind))
    lines = []
    policy = Policy(save_every or stop_at or 0, 0.0, keep, keep_every)
    with Preemption() as preemption, lock.hold(folder), Watchdog(0.0, folder) as watchdog:
        opened = Folder(folder, config={'kind': kind, 'steps': steps}, made_of={})

        def report(line):
            lines.append(line)
            opened.note('warning', line)

        checkpoints = Checkpoints(folder / 'checkpoints', policy=policy, asynchronous=asynchronous, report=report)
        session = Session(
            opened, checkpoints, steps=steps, resume=resume, preemption=preemption, watchdog=watchdog, say=lines.append
        )

        def follow(step, row):
            on_row(step, row)
            time.sleep(pause)

        events = session.events(log_every=log_every, on_row=follow, rollbacks=rollbacks)
        asked = events.ask
        last = stop_at or steps + 1
        events = dataclasses.replace(events, ask=lambda step: Ask.STOP if step >= last else asked(step))
        del program.batches[:]
        try:
            fitted = fit(
                program, source, batch=4, steps=steps, seed=0, frozen=frozen(), events=events, resume=session.resume
            )
        except Preempted:
            return Ran(None, list(program.batches), lines, True)
        finally:
            session.close()
    return Ran(fitted.state, list(program.batches), lines, False)


def rows_digest(folder) -> str:
    return hashlib.sha256((folder / 'metrics.jsonl').read_bytes()).hexdigest()


def rows(folder) -> list:
    return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def command(folder, **options) -> list:
    return [sys.executable, __file__, str(folder), json.dumps(options)]


def elsewhere(folder, **options) -> dict:
    """The same in a new process, compiled anew: the last line that it printed."""
    environ = {**os.environ, 'JAX_ENABLE_COMPILATION_CACHE': '0'}
    found = subprocess.run(command(folder, **options), capture_output=True, text=True, timeout=120, env=environ)
    assert found.returncode in (0, PREEMPTED), found.stderr
    return json.loads(found.stdout.splitlines()[-1])


def die_in(method) -> None:
    """End the process at the second call of a method of `Checkpoints`: at once, with nothing put away."""
    whole, calls = getattr(Checkpoints, method), []

    def call(self, *args):
        calls.append(args)
        if len(calls) == 2:
            os._exit(9)
        return whole(self, *args)

    setattr(Checkpoints, method, call)


def main() -> int:
    folder, options = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
    if 'dies_in' in options:
        die_in(options.pop('dies_in'))
    ran = train(folder, **options, on_row=lambda step, row: print(step, flush=True))
    said = {'batches': ran.batches, 'lines': ran.lines, 'stopped': ran.stopped}
    print(json.dumps(said | ({} if ran.stopped else {'digest': ran.digest})))
    return PREEMPTED if ran.stopped else 0


if __name__ == '__main__':
    sys.exit(main())
