"""A run folder: what was asked, what it was made of, what came out. `metrics.jsonl` is the truth."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import time
from typing import Any

from kdjax.errors import UserError
from kdjax.record import finite, write_atomically
from kdjax.run.group import distributed

ROWS, EVENTS = 'metrics.jsonl', 'events.jsonl'


class Folder:
    """config.json, identity.json, metrics.jsonl, events.jsonl, checkpoints/, result.json.

    Opening a folder that holds another configuration is refused, with the difference; so is other code or data. What
    `may_differ` (the device, say) is noted instead; `made_of` is what the folder was first made of.
    """

    def __init__(
        self, path: pathlib.Path, *, config: dict[str, Any], made_of: dict[str, Any], may_differ: tuple[str, ...] = ()
    ):
        self.path, self.config = path.absolute(), config
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._claim('config.json', config, ())
            self.made_of = self._claim('identity.json', made_of, may_differ)
        except OSError as error:
            raise UserError(f'the run folder {path} cannot be made ({error}): choose another with --out') from error

    def _claim(self, name: str, content: dict[str, Any], may_differ: tuple[str, ...]) -> dict[str, Any]:
        file = self.path / name
        text = json.dumps(finite(content), indent=1, sort_keys=True) + '\n'
        new = json.loads(text)
        if distributed.decide(not file.exists(), f'new {name}'):
            if distributed.is_writer():
                write_atomically(file, text)
            return new
        old = json.loads(file.read_text())
        changed = {
            k: f'{k}: {old.get(k)!r} there, {new.get(k)!r} now' for k in sorted(old | new) if old.get(k) != new.get(k)
        }
        refused = [said for k, said in changed.items() if k not in may_differ]
        if refused:
            raise UserError(
                f'{self.path} belongs to another run ({", ".join(refused)}): choose another --out, or repeat '
                'its settings'
            )
        for said in changed.values():
            self.note('changed', said)
        return old

    def note(self, event: str, line: str) -> None:
        """Add a line to events.jsonl: what happened to the run, for people. It never stops a run."""
        if not distributed.is_writer():
            return
        said = {'time': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()), 'pid': os.getpid(), 'event': event}
        with contextlib.suppress(OSError), (self.path / EVENTS).open('a') as file:
            file.write(json.dumps(said | {'line': line}) + '\n')

    def forget_after(self, step: int) -> None:
        """Drop the rows that a resumed run will write again, and a last one that was cut off."""
        file = self.path / ROWS
        if not distributed.is_writer() or not file.exists():
            return
        lines = [line for line in file.read_text().splitlines(keepends=True) if line.endswith('\n')]
        kept = [line for line in lines if json.loads(line)['step'] <= step]
        write_atomically(file, ''.join(kept))

    def settle_rows(self) -> None:
        """Put the rows on the disk for good, before a checkpoint that counts on them."""
        if not distributed.is_writer():
            return
        with (self.path / ROWS).open('r') as file:
            os.fsync(file.fileno())

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result."""
        if distributed.is_writer():
            write_atomically(self.path / 'result.json', json.dumps(finite(result), indent=1, sort_keys=True) + '\n')
