"""One policy for every way of running: the same command again, later and later, and never after the user's error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from launch.exit_codes import worth_retrying
from launch.hands import tell


@dataclasses.dataclass(frozen=True)
class Policy:
    """At most `restarts` further attempts; before the n-th a wait of `first * 2**n` seconds, `longest` at most."""

    restarts: int = 0
    first: float = 5.0
    longest: float = 600.0

    def delay(self, restart: int) -> float:
        """Seconds before restart number `restart` (from 0)."""
        return min(self.first * 2.0**restart, self.longest)


def attempts(policy: Policy, once: Callable[[int], int], stopped: Callable[[float], bool]) -> int:
    """Call `once(attempt)` until its exit code is not worth a retry or the restarts are used up; the last code.

    `stopped(seconds)` waits, and says whether somebody asked to stop meanwhile.
    """
    for attempt in range(policy.restarts + 1):
        code = once(attempt)
        if not worth_retrying(code) or attempt == policy.restarts:
            break
        delay = policy.delay(attempt)
        tell(f'exit code {code}: attempt {attempt + 2} of {policy.restarts + 1} in {delay:g} s')
        if stopped(delay):
            break
    return code
