"""The verdict on a claim where numbers may be missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kdjax.experiment import Claim
from kdjax.record import judge

LEAST = 3
"""Fewer pairs than these give no verdict, where a side diverged at the others."""


def judged(c: Claim, left: Sequence[float | None], right: Sequence[float | None]) -> dict[str, Any]:
    """The verdict on a claim from paired results, one per seed; None, or a number that is not finite: it diverged.

    Without missing numbers it is that of `kdjax.record.judge`. A claim whose left side, of which it says that it is the
    better one, diverged at any seed is contrary. One whose right side did is judged on the other seeds, and
    inconclusive on fewer than three. Its text says which side diverged and on how many seeds it stands; `differences`
    has None at the seeds without a pair, and its interval is that of the others.
    """
    pairs = [(a, b) if _known(a) and _known(b) else None for a, b in zip(left, right, strict=True)]
    whole = [pair for pair in pairs if pair is not None]
    if len(whole) == len(pairs):
        return judge(c, *zip(*whole, strict=True))
    found = judge(c, *zip(*whole, strict=True)) if whole else _nothing(c)
    among = iter(found['differences'])
    lost, verdict = sum(not _known(a) for a in left), found['verdict']
    if lost:
        verdict, said = 'contrary', f'{c.left} diverged at {lost} of {len(pairs)} seeds'
    else:
        verdict = verdict if len(whole) >= LEAST else 'inconclusive'
        said = f'on {len(whole)} of {len(pairs)} seeds: {c.right} diverged'
    differences = [None if pair is None else next(among) for pair in pairs]
    return found | {'text': f'{c} ({said})', 'differences': differences, 'verdict': verdict}


def _nothing(c: Claim) -> dict[str, Any]:
    """What is said of a claim without any pair."""
    empty: dict[str, Any] = {'differences': [], 'mean': None, 'low': None, 'high': None, 'verdict': 'inconclusive'}
    return judge(c, [0.0], [0.0]) | empty


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
