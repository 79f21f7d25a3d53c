"""A run folder: what was asked, what it was made of, what came out. `metrics.jsonl` is the truth."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from kdjax.algorithms.algorithm import State
from kdjax.errors import UserError
from kdjax.record import finite, write_atomically
from kdjax.run import identity


class Folder:
    """config.json, identity.json, metrics.jsonl, checkpoints/, result.json.

    Opening a folder that holds another configuration is refused, with the difference; the same one goes on from its
    latest checkpoint.
    """

    def __init__(self, path: pathlib.Path, *, config: dict[str, Any], made_of: dict[str, Any]):
        self.path = path.absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f'the run folder {path} cannot be made ({error}): choose another with --out') from error
        self._claim('config.json', config)
        self._claim('identity.json', made_of)
        self._checkpoints = ocp.CheckpointManager(
            self.path / 'checkpoints',
            options=ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False),
        )

    def _claim(self, name: str, content: dict[str, Any]) -> None:
        file = self.path / name
        text = json.dumps(finite(content), indent=1, sort_keys=True) + '\n'
        if not file.exists():
            write_atomically(file, text)
            return
        old = json.loads(file.read_text())
        new = json.loads(text)
        if old != new:
            changed = ', '.join(
                f'{k}: {old.get(k)!r} there, {new.get(k)!r} now' for k in sorted(old | new) if old.get(k) != new.get(k)
            )
            raise UserError(
                f'{self.path} belongs to another run ({changed}): choose another --out, or repeat its settings'
            )

    def latest(self, like: State) -> State | None:
        """The state of the latest checkpoint, with the structure and types of `like`; None if there is none."""
        step = self._checkpoints.latest_step()
        if step is None:
            return None
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._checkpoints.restore(step, args=ocp.args.StandardRestore(target))

    def save(self, step: int, state: State) -> None:
        """A checkpoint: all of the state. Whole, or not there."""
        if step not in self._checkpoints.all_steps():
            self._checkpoints.save(step, args=ocp.args.StandardSave(state))
            self._checkpoints.wait_until_finished()

    def forget_after(self, step: int) -> None:
        """Drop the rows that a resumed run will write again."""
        file = self.path / 'metrics.jsonl'
        if file.exists():
            rows = [line for line in file.read_text().splitlines() if json.loads(line)['step'] <= step]
            write_atomically(file, ''.join(f'{row}\n' for row in rows))

    def finish(self, state: State, result: dict[str, Any]) -> str:
        """Write the result; return the sha256 of the final state."""
        self._checkpoints.close()
        final = identity.state_digest(state)
        write_atomically(
            self.path / 'result.json',
            json.dumps(finite(result | {'state_sha256': final}), indent=1, sort_keys=True) + '\n',
        )
        return final
