"""Checkpoints of a run: whole or not there, found damaged before they are loaded, kept by a policy.

A step is written into `.temporary`, put under a manifest and renamed to its number. Whatever happens on the way, a
numbered folder with a valid manifest is a checkpoint and nothing else is one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import pathlib
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from kdjax.algorithms.algorithm import State
from kdjax.errors import UserError
from kdjax.run import manifest
from kdjax.run.group import distributed
from kdjax.run.manifest import Damaged
from kdjax.run.saving import Together

TEMPORARY, STATE, BESIDE = '.temporary', 'state', 'beside.npz'

OVERHEAD = 32 * 1024
"""Bytes of a checkpoint besides its arrays, for a small one: Orbax's metadata and ours."""


MOST_ERRORS = 10
"""Of one save that failed: that of its arrays, and those of the files beside them."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """When checkpoints are made and which are kept.

    save_every: steps between temporary ones, 0 for none but the last. save_seconds: seconds after which one is due
    whatever the step, 0 for never. keep: how many temporary ones stay. keep_every: multiples of it are permanent, made
    and never removed; 0 for none.
    """

    save_every: int = 0
    save_seconds: float = 0.0
    keep: int = 2
    keep_every: int = 0

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise UserError(
                f'keep={self.keep}: at least one checkpoint has to be kept, and two to survive a damaged one'
            )
        for name in ('save_every', 'save_seconds', 'keep_every'):
            if getattr(self, name) < 0:
                raise UserError(f'{name}={getattr(self, name)}: give 0 for never, or a positive number')

    def permanent(self, step: int) -> bool:
        return bool(self.keep_every) and step % self.keep_every == 0

    def scheduled(self, step: int) -> bool:
        """Whether a checkpoint of this step is made in every course of events; any is, where no schedule says."""
        return self.permanent(step) or not self.save_every or step % self.save_every == 0

    def superfluous(self, steps: Sequence[int]) -> list[int]:
        """Which of these committed steps go, oldest first. The newest scheduled one stays: a roll-back goes there."""
        temporary = [s for s in sorted(steps) if not self.permanent(s)]
        newest = max((s for s in steps if self.scheduled(s)), default=None)
        return [s for s in temporary[: -self.keep] if s != newest]


DEFAULT = Policy()


class Checkpoints:
    """The checkpoints in a folder.

    asynchronous: write in the background; `save` then returns as soon as the state is off the device.
    report: gets a line for everything that went wrong and was survived, also from the background.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        policy: Policy = DEFAULT,
        asynchronous: bool = True,
        report: Callable[[str], None] = lambda line: None,
    ):
        self.folder, self.policy, self.report = folder.absolute(), policy, report
        self._asynchronous = asynchronous
        self._temporary = self.folder / TEMPORARY
        self._thread: threading.Thread | None = None
        self._together = Together()
        options = ocp.AsyncOptions(barrier_sync_fn=self._together.barrier)
        self._writer = ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler(), async_options=options)
        if distributed.is_writer():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                _delete(self._temporary)
            except OSError as error:
                raise UserError(f'{self.folder} cannot be written ({error}): choose another --out') from error
        distributed.barrier('checkpoints')

    def steps(self) -> list[int]:
        """Committed steps, in order: those with a valid manifest and files of the right size."""
        return sorted(step for step in self._numbered() if self._committed(step))

    def latest(self) -> int | None:
        """The newest committed step."""
        return next(iter(reversed(self.steps())), None)

    def save(self, step: int, state: State, beside: Mapping[str, np.ndarray] | None = None) -> None:
        """Begin a checkpoint; the caller may donate `state` at once. A failure is reported, never raised.

        beside: small host arrays that belong to the run and not to the state.
        """
        self._join()
        leaves = manifest.describe(state)
        try:
            self._prepare(beside or {}, sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
            self._together.begin()
            self._writer.save(self._temporary / STATE, args=ocp.args.StandardSave(_apart(state)))
        except Exception as error:
            self._failed(step, error)
            return
        if self._asynchronous:
            self._thread = threading.Thread(target=self._finish, args=(step, leaves), name='kdjax-checkpoint')
            self._thread.start()
        else:
            self._finish(step, leaves)

    def restore(self, step: int | None, like: State, *, scheduled: bool = False) -> tuple[int, State] | None:
        """A step and its state, with the structure, types and shardings of `like`; None if there is no checkpoint.

        step: None takes the newest that is whole and reports every damaged one on the way; a number takes that one.
        scheduled: take none that a signal or the clock has made, where the policy says at which steps they are made.
        Raises `UserError` if the step asked for is not there or damaged, if all are damaged, or if the state does not
        fit `like`.
        """
        self.wait()
        if step is not None:
            return step, self._load(step, like, self._checked(step))
        newest = distributed.decide(self._newest_whole(scheduled) if distributed.is_writer() else None, 'restore')
        if newest is None:
            return None
        return newest, self._load(newest, like, manifest.read(self._place(newest), newest))

    def _newest_whole(self, scheduled: bool) -> int | None:
        numbered = sorted((s for s in self._numbered() if not scheduled or self.policy.scheduled(s)), reverse=True)
        for candidate in numbered:
            try:
                manifest.check(self._place(candidate), candidate)
            except Damaged as damage:
                self.report(f'checkpoint of step {candidate} is damaged: {damage}. Going back to the one before it')
                continue
            return candidate
        if numbered:
            raise UserError(
                f'none of the {len(numbered)} checkpoints in {self.folder} is whole (see above): move that folder away '
                'to start over from step 0, or choose another --out'
            )
        return None

    def beside(self, step: int) -> dict[str, np.ndarray]:
        """What was saved beside the state of a committed step."""
        with np.load(self._place(step) / BESIDE) as arrays:
            return dict(arrays)

    def forget_after(self, step: int) -> None:
        """Remove every checkpoint beyond a step, the newest first: the run takes another course from there."""
        self.wait()
        if not distributed.is_writer():
            return
        for later in sorted((s for s in self._numbered() if s > step), reverse=True):
            self._remove(later)

    def wait(self) -> None:
        """Until the save in the background is committed or reported."""
        self._join()

    def close(self) -> None:
        """Wait, and let the background go."""
        self._join()
        self._writer.close()

    def _numbered(self) -> list[int]:
        return [int(p.name) for p in self.folder.glob('*') if p.name.isdecimal() and p.is_dir()]

    def _committed(self, step: int) -> bool:
        try:
            return bool(manifest.read(self._place(step), step))
        except Damaged:
            return False

    def _place(self, step: int) -> pathlib.Path:
        return self.folder / str(step)

    def _checked(self, step: int) -> dict[str, Any]:
        if step not in self._numbered():
            there = ', '.join(map(str, self.steps())) or 'none'
            raise UserError(f'there is no checkpoint of step {step} in {self.folder}: --resume takes one of {there}')
        try:
            return manifest.check(self._place(step), step)
        except Damaged as damage:
            raise UserError(
                f'the checkpoint of step {step} is damaged: {damage}. Choose another step, or --resume auto'
            ) from damage

    def _load(self, step: int, like: State, found: dict[str, Any]) -> State:
        differs = manifest.difference(found['leaves'], manifest.describe(like))
        if differs is not None:
            raise UserError(
                f'the checkpoint {self._place(step)} is of another program: {differs}. Choose another --out, or repeat '
                'the settings it was made with'
            )
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._writer.restore(self._place(step) / STATE, args=ocp.args.StandardRestore(target))

    def _prepare(self, beside: Mapping[str, np.ndarray], size: int) -> None:
        """An empty temporary folder, by the one process that writes what is not sharded."""
        failure = None
        if distributed.is_writer():
            try:
                _delete(self._temporary)
                _check_room(self.folder, size)
                self._temporary.mkdir()
                with (self._temporary / BESIDE).open('wb') as file:
                    np.savez(file, **beside)  # type: ignore[arg-type]
            except Exception as error:
                failure = error
        if distributed.decide(failure is not None, 'prepared'):
            raise failure or OSError('the process that writes could not begin')

    def _finish(self, step: int, leaves: dict[str, str]) -> None:
        try:
            self._writer.wait_until_finished()
            self._together.end()
            if distributed.is_writer():
                self._commit(step, leaves)
        except Exception as error:
            self._failed(step, error)
            return
        if distributed.is_writer():
            self._prune()

    def _commit(self, step: int, leaves: dict[str, str]) -> None:
        manifest.write(self._temporary, step, leaves)
        _delete(self._place(step))
        self._temporary.rename(self._place(step))
        manifest.settle_folder(self.folder)

    def _prune(self) -> None:
        try:
            for step in self.policy.superfluous(self.steps()):
                self._remove(step)
        except OSError as error:
            self.report(f'an old checkpoint could not be removed: {error}')

    def _remove(self, step: int) -> None:
        """First out of sight, then away: a kill in between leaves one temporary folder and no half checkpoint."""
        _delete(self._temporary)
        self._place(step).rename(self._temporary)
        _delete(self._temporary)

    def _failed(self, step: int, error: Exception) -> None:
        self._together.fail(error)
        self._drain()
        if not distributed.is_writer():
            return
        with contextlib.suppress(OSError):
            _delete(self._temporary)
        latest = self.latest()
        still = 'there is none yet' if latest is None else f'the latest stays step {latest}'
        said = _shortened(str(error))
        self.report(
            f'step {step} was not saved ({type(error).__name__}: {said}); {still}. The next save is tried as planned'
        )

    def _drain(self) -> None:
        """Until nothing of a failed save is still being written; its other errors would be raised by the next save.

        Orbax forgets an error once it has raised it, and a save has few.
        """
        for _ in range(MOST_ERRORS):
            try:
                self._writer.wait_until_finished()
            except Exception:
                continue
            break

    def _join(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()


def _shortened(text: str) -> str:
    """The two ends of what may be pages: what was tried is said first and why it failed last, but for a long spec."""
    words = ' '.join(text.partition('[tensorstore_spec')[0].split())
    return words if len(words) <= 500 else f'{words[:200]} ... {words[-300:]}'


def _check_room(folder: pathlib.Path, size: int) -> None:
    """Raise before a file is begun, where the file system says how much it takes; what the state needs is a guess."""
    free = shutil.disk_usage(folder).free
    if free < size + OVERHEAD:
        raise OSError(
            errno.ENOSPC, f'{os.strerror(errno.ENOSPC)}: about {size + OVERHEAD} bytes are needed, {free} are free'
        )


def _delete(folder: pathlib.Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


@jax.jit
def _copy(state: State) -> State:
    return jax.tree.map(jnp.copy, state)


def _apart(state: State) -> State:
    """A state that the writer may read while the loop donates the other: on CPU the writer would read it in place."""
    return _copy(state) if jax.default_backend() == 'cpu' else state
