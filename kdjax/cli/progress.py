"""A bar with the time left where a person watches, plain lines where nobody does. Always on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kdjax.run.group import distributed

Advance = Callable[[int, int, str], None]


@contextlib.contextmanager
def progress(title: str) -> Iterator[tuple[Advance, Callable[[str], None]]]:
    """Yields `advance(done, of, what)` and `say(line)`. Of several processes, one speaks for all."""
    if not distributed.is_writer():
        yield (lambda done, of, what: None), (lambda line: None)
    elif sys.stderr.isatty():
        yield from _bar(title)
    else:
        yield from _lines(title)


def _bar(title: str):
    columns = (
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def advance(done: int, of: int, what: str) -> None:
            bar.update(task, completed=done, total=of, description=f'{title}: {what}')

        yield advance, lambda line: bar.console.print(f'[dim]{line}')


def _lines(title: str):
    start = time.monotonic()

    def advance(done: int, of: int, what: str) -> None:
        print(f'{title}: {done}/{of} {what} ({time.monotonic() - start:.0f} s)', file=sys.stderr, flush=True)

    yield advance, lambda line: print(f'{title}: {line}', file=sys.stderr, flush=True)
