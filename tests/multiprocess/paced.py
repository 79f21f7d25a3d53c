"""The real `kdjax run`, paced for those who strike it: `python paced.py SECONDS run NAME ...` sleeps at every row.

Every rank says `row STEP LOSS`, `saving STEP` and `resumed STEP`. What KDJAX_FAULTS asks for goes wrong, as in
{"prepare 0": 40}: on rank 0, at step 40. prepare: the checkpoint finds no room; write: what is written in the
background fails; commit: the manifest cannot be written; stall: the row never ends.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable

from orbax.checkpoint._src.futures.future import CommitFuture
from orbax.checkpoint._src.handlers.standard_checkpoint_handler import StandardCheckpointHandler

from kdjax.cli import main as command
from kdjax.run import checkpoints, manifest, session

HOURS = 10_000.0


class Faults:
    """What goes wrong on this rank, and at which step."""

    def __init__(self, asked: str, rank: str):
        self._asked = {tuple(name.split()): step for name, step in json.loads(asked or '{}').items()}
        self._rank, self._saving = rank, 0

    def at(self, name: str, step: int | None = None) -> bool:
        """Is it now? At the step, or at the one that is being saved."""
        return self._asked.get((name, self._rank)) == (self._saving if step is None else step)

    def saving(self, step: int) -> None:
        self._saving = step

    def wrap(self, name: str, whole: Callable) -> Callable:
        """The function, which finds the disk full when its turn comes."""

        def call(*given):
            if self.at(name):
                full()
            return whole(*given)

        return call

    def wrap_write(self, whole: Callable) -> Callable:
        """Orbax's writes, with one more among them that fails when its turn comes."""

        async def begin(self_, *given, **named):
            begun = await whole(self_, *given, **named)
            return [*begun, CommitFuture(full_later())] if self.at('write') else begun

        return begin


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def full_later() -> None:
    full()


def say(*words) -> None:
    print(*words, flush=True)


def pace(seconds: float, faults: Faults) -> None:
    """Slow rows, which every rank prints."""
    log = session.Session._log

    def slow(self, step, row):
        log(self, step, row)
        say('row', step, row['student/loss'].hex())
        time.sleep(HOURS if faults.at('stall', step) else seconds)

    session.Session._log = slow


def tell(faults: Faults) -> None:
    """Where this rank saves, and from where it goes on."""
    save, resume = session.Session._save, session.Session.resume

    def told_save(self, step, state):
        self.checkpoints.wait()
        faults.saving(step)
        say('saving', step)
        save(self, step, state)

    def told_resume(self, fresh):
        state = resume(self, fresh)
        say('resumed', 0 if state is None else int(state['step']))
        return state

    session.Session._save, session.Session.resume = told_save, told_resume


def main(arguments: list[str]) -> int:
    seconds, *given = arguments
    faults = Faults(os.environ.get('KDJAX_FAULTS', ''), os.environ.get('KDJAX_PROCESS', '0'))
    pace(float(seconds), faults)
    tell(faults)
    checkpoints._check_room = faults.wrap('prepare', checkpoints._check_room)
    manifest.write = faults.wrap('commit', manifest.write)
    StandardCheckpointHandler.async_save = faults.wrap_write(StandardCheckpointHandler.async_save)
    sys.argv[1:] = given
    return command.console()


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
