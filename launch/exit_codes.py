"""What the exit codes of kdjax mean to whoever starts it."""

from __future__ import annotations

from collections.abc import Iterable

DONE, USER_ERROR, DEFECT, NOT_REPRODUCED, HANG, PREEMPTED = 0, 1, 2, 3, 70, 75

SIGNALLED = 128
"""A process that signal n ended has the exit code 128 + n, as in a shell."""

LOST = 255
"""The machine went away: what ssh says."""

RETRIED = (HANG, PREEMPTED)
"""Worth the same command again, as is everything from SIGNALLED on."""


def as_exit_code(returncode: int) -> int:
    """`subprocess`'s -9 -> 137; exit codes stay as they are."""
    return SIGNALLED - returncode if returncode < 0 else returncode


def worth_retrying(code: int) -> bool:
    """Would the same command go on where this one ended? Not after success, the user's error or our defect."""
    return code in RETRIED or code >= SIGNALLED


def worst(codes: Iterable[int]) -> int:
    """The code of a group: the one that explains the others.

    1 > 70 > signals > 2 and unknown codes > 75 > 3 > 0. The user's error comes first since no retry mends it; a
    defect (2) comes after signals, because the loss of a neighbour looks like one to those that talk to it.
    """
    return max(codes, key=_rank, default=DONE)


def _rank(code: int) -> int:
    order = (DONE, NOT_REPRODUCED, PREEMPTED, DEFECT, SIGNALLED, HANG, USER_ERROR)
    if code >= SIGNALLED:
        return order.index(SIGNALLED)
    return order.index(code) if code in order else order.index(DEFECT)
