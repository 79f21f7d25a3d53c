"""Processes that write one checkpoint wait for each other in the background, and hear if one of them has failed."""

from __future__ import annotations

import contextlib

from kdjax.run.group import distributed


class Together:
    """One save after the other: `begin`; then Orbax calls `barrier` on every process, or `fail` is called; then `end`.

    Orbax's own barrier would let the others wait for a process whose disk is full, for as long as a save may take.
    """

    def __init__(self) -> None:
        self._under_way = False

    def begin(self) -> None:
        self._under_way = True

    def end(self) -> None:
        self._under_way = False

    def barrier(self, *, key: str, timeout_ms: int) -> None:
        """Returns once all processes are here. Raises `OSError` if one has failed, and says which."""
        faults = distributed.agree('', 'saved', seconds=timeout_ms / 1000)
        found = next((f'rank {rank} could not write: {fault}' for rank, fault in enumerate(faults) if fault), None)
        if found is not None:
            self.end()
            raise OSError(found)

    def fail(self, error: Exception) -> None:
        """Tell the others, unless it is they who told; returns once all have heard, or some will never."""
        if self._under_way:
            self.end()
            with contextlib.suppress(RuntimeError):
                distributed.agree(str(error) or type(error).__name__, 'saved')
