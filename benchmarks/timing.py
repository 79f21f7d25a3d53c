"""How the benchmarks measure: contestants in turn, the median of paired ratios, one JSON line."""

from __future__ import annotations

import argparse
import json
import operator
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdjax.run import identity

Contestant = Callable[[int], float]
"""Runs so many steps and returns the seconds that they took."""

COMPARISONS = {'>=': operator.ge, '<=': operator.le}


def arguments(description: str | None, *, repeats: int) -> argparse.Namespace:
    """The flags that every benchmark has: `--repeats`, and `--smoke` to try the script in seconds."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--repeats', type=int, default=repeats, help='rounds of one turn each')
    parser.add_argument('--smoke', action='store_true', help='tiny sizes: it works, it measures nothing')
    return parser.parse_args()


def timed(once: Callable[[], Any]) -> Contestant:
    """A contestant whose step is one call."""

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            once()
        return time.perf_counter() - start

    return run


def interleaved(
    contestants: Mapping[str, Contestant], *, steps: int, repeats: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """Seconds per step `[repeats]` of each contestant, in rounds A B C, A B C, ...

    A machine that slows down slows all contestants of a round alike. The warm-up compiles, and is not timed.
    """
    for run in contestants.values():
        run(warm_up)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            seconds[name].append(run(steps) / steps)
    for name, values in seconds.items():
        low, middle, high = (1e3 * f(values) for f in (min, statistics.median, max))
        print(f'  {name:<24} {middle:10.3f} ms a step  ({low:.3f} .. {high:.3f})', flush=True)
    return seconds


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over rounds of above / below."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def run_cases(
    name: str,
    description: str | None,
    *,
    cases: Mapping[str, dict[str, Any]],
    smoke: Mapping[str, dict[str, Any]],
    measure: Callable[..., float],
    goals: Mapping[str, str],
) -> None:
    """A benchmark of several cases: `measure(case, repeats=)` gives the ratio of each. `smoke` are their tiny twins."""
    options = arguments(description, repeats=9)
    ratios = {}
    for case_name, case in (smoke if options.smoke else cases).items():
        print(f'{case_name}: {case["spec"]}, batch {case["batch"]} at {case["size"]}x{case["size"]}', flush=True)
        ratios[case_name] = measure(case, repeats=options.repeats)
    conclude(name, ratios=ratios, goals=goals)


def conclude(
    name: str,
    *,
    ratios: Mapping[str, float],
    goals: Mapping[str, str],
    versions: Mapping[str, str] | None = None,
) -> None:
    """Print the last line: one JSON object. A goal is a bound on the ratio of its name, such as '>= 0.97'."""
    record = {
        'name': name,
        'device': identity.device(),
        'versions': {**identity.versions(), **(versions or {})},
        'ratios': {n: round(value, 4) for n, value in ratios.items()},
        'goals': dict(goals),
        'met': {n: holds(ratios[n], goal) for n, goal in goals.items()},
    }
    print(json.dumps(record), flush=True)


def holds(value: float, goal: str) -> bool:
    """Whether a value keeps a bound such as '<= 1.1'."""
    comparison, bound = goal.split()
    return COMPARISONS[comparison](value, float(bound))
