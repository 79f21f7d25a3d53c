"""One run in its folder, from process to process: it goes on where it was, writes rows, saves, and stops when asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kdjax.algorithms.algorithm import State
from kdjax.errors import UserError
from kdjax.run.checkpoints import Checkpoints
from kdjax.run.clock import Clock
from kdjax.run.course import Course
from kdjax.run.fit import Ask, Events
from kdjax.run.folder import ROWS, Folder
from kdjax.run.group import distributed
from kdjax.run.preemption import Preemption
from kdjax.run.watchdog import Watchdog
from kdjax.run.writers import Jsonl, Nowhere, Writer

ROLLBACKS = 3
"""How often a run may be rolled back in all."""


class Session:
    """What the loop calls while one run trains.

    resume: 'auto' for the newest whole checkpoint, a step, or 'never' for a folder without any. say: for people.
    """

    def __init__(
        self,
        folder: Folder,
        checkpoints: Checkpoints,
        *,
        steps: int,
        resume: str,
        preemption: Preemption,
        watchdog: Watchdog,
        trackers: Sequence[Writer] = (),
        say: Callable[[str], None] = lambda line: None,
    ):
        self.folder, self.checkpoints, self.course = folder, checkpoints, Course()
        self._steps, self._asked, self._say = steps, resume, say
        self._preemption, self._watchdog, self._trackers = preemption, watchdog, trackers
        self._rows: Writer | None = None
        self._clock = Clock(checkpoints.policy.save_seconds)

    def events(self, *, log_every: int, on_row: Callable[[int, dict[str, float]], None], rollbacks: int = 0) -> Events:
        """The loop's events; `on_row` sees every row after it is written."""

        def log(step: int, row: dict[str, float]) -> None:
            self._log(step, row)
            on_row(step, row)

        policy = self.checkpoints.policy
        return Events(
            log_every=log_every,
            on_log=log,
            save_every=policy.save_every or self._steps,
            keep_every=policy.keep_every,
            on_save=self._save,
            ask=self._ask,
            course=self.course,
            rollbacks=rollbacks,
        )

    def resume(self, fresh: State) -> State | None:
        """The state to go on from; rows and checkpoints beyond it are forgotten. Called again for a roll-back."""
        back = bool(self.course.why)
        found = None if self._begins() else self.checkpoints.restore(self._wanted(), fresh, scheduled=back)
        step, state = found or (0, None)
        if self._asked.isdecimal():
            self.checkpoints.forget_after(step)
        self._reopen(step)
        if found:
            self.course.load(self.checkpoints.beside(step))
        if back:
            self._tell(
                'rollback', f'{self.course.why}. Back to step {step}, with the data in order {self.course.order}'
            )
        elif step:
            self._tell('resume', f'going on from step {step} of {self._steps}')
        self._asked = 'auto'
        return state

    def close(self) -> None:
        """Wait for the last save, close everything that writes."""
        self.checkpoints.close()
        for writer in (*self._trackers, *([self._rows] if self._rows else ())):
            writer.close()

    def _begins(self) -> bool:
        """Whether the run has to start at step 0. Raises `UserError` if it must and cannot."""
        if self._asked != 'never':
            return False
        there = self.checkpoints.steps()
        if there:
            raise UserError(
                f'--resume never, but {self.checkpoints.folder} holds checkpoints (the latest is of step {there[-1]}): '
                'choose another --out, or go on with --resume auto'
            )
        return True

    def _wanted(self) -> int | None:
        return int(self._asked) if self._asked.isdecimal() else None

    def _reopen(self, step: int) -> None:
        if self._rows is not None:
            self._rows.close()
        self.folder.forget_after(step)
        self._rows = Jsonl(self.folder.path / ROWS) if distributed.is_writer() else Nowhere()

    def _tell(self, event: str, line: str) -> None:
        self._say(line)
        self.folder.note(event, line)

    def _log(self, step: int, row: dict[str, float]) -> None:
        assert self._rows is not None
        for writer in (self._rows, *self._trackers):
            writer.write(step, row)

    def _save(self, step: int, state: State) -> None:
        self.folder.settle_rows()
        self.checkpoints.save(step, state, self.course.arrays())
        self._clock.saved(step)
        self._watchdog.beat()
        if step == self._steps:
            self._preemption.release()

    def _ask(self, step: int) -> Ask:
        """Between two chunks. With several processes, this is where they have to agree."""
        self._watchdog.beat()
        self._preemption.hold()
        if self._preemption.asked():
            self._tell('stop', f'asked to stop: saving step {step} of {self._steps}')
            return Ask.STOP
        return Ask.SAVE if self._clock.due(step) else Ask.GO


def check_resume(asked: str) -> str:
    """The value of --resume. Raises `UserError` if it is none."""
    if asked in ('auto', 'never') or asked.isdecimal():
        return asked
    raise UserError(f"--resume '{asked}': give auto, never, or the step of a checkpoint")
