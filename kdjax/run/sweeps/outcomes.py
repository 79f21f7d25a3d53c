"""How the trials of a sweep ended, kept beside its plan: what went wrong, and what was handed to other machines."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterable

from kdjax.errors import UserError
from kdjax.record import write_atomically
from kdjax.run.preemption import PREEMPTED
from kdjax.run.sweeps.plan import Trial, result

HANG, WRONG_INPUT = 70, 1


@dataclasses.dataclass(frozen=True)
class Outcome:
    """code: the exit code of the trial, or of handing it over. said: its last words. place: who has it, if not here."""

    code: int
    said: str = ''
    place: str = 'local'

    @property
    def handed_over(self) -> bool:
        return self.place != 'local' and self.code == 0


class Outcomes:
    """outcomes.json of one sweep, by run folder; every change is on the disk before anything else happens."""

    def __init__(self, folder: pathlib.Path):
        self.file = folder / 'outcomes.json'
        try:
            read = json.loads(self.file.read_text()) if self.file.exists() else {}
            self._kept = {name: Outcome(**outcome) for name, outcome in read.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f'{self.file} cannot be read ({error}): move it away and sweep again') from error

    def of(self, trial: Trial) -> Outcome | None:
        return self._kept.get(trial.folder)

    def note(self, trial: Trial, outcome: Outcome) -> None:
        self._kept[trial.folder] = outcome
        kept = {name: dataclasses.asdict(o) for name, o in self._kept.items()}
        write_atomically(self.file, json.dumps(kept, indent=1, sort_keys=True) + '\n')

    def state(self, trial: Trial, root: pathlib.Path) -> str:
        """In words: done, waiting, interrupted, failed (CODE): WHY, or handed to PLACE."""
        if result(trial, root) is not None:
            return 'done'
        last = self.of(trial)
        if last is None:
            return 'waiting'
        if last.code == PREEMPTED:
            return f'interrupted: {last.said}' if last.said else 'interrupted'
        if last.code:
            return f'failed ({last.code}): {last.said}'
        return f'handed to {last.place}' if last.handed_over else 'waiting'


def worst(codes: Iterable[int]) -> int:
    """The exit code of a sweep from those of its trials.

    75 if any can go on; else the code that nobody foresaw (2, a signal's), else 70, 1, 0.
    """
    order = {0: 0, WRONG_INPUT: 1, HANG: 2, PREEMPTED: 4}
    return max(codes, key=lambda code: order.get(code, 3), default=0)
