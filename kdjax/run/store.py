"""The content-addressed store: artifacts by the digest of everything they were made from."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

import jax
import orbax.checkpoint as ocp

from kdjax.data.cache import cache_folder
from kdjax.errors import UserError
from kdjax.record import finite
from kdjax.stage import Artifact


def default_root() -> pathlib.Path:
    """`$KDJAX_STORE`, else `store` in the user's cache folder."""
    return pathlib.Path(os.environ.get('KDJAX_STORE') or cache_folder() / 'store')


class Store:
    """A folder of artifacts. An artifact is there whole or not at all: written beside, then renamed."""

    def __init__(self, root: pathlib.Path | None = None):
        self.root = pathlib.Path(root or default_root()).absolute()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f'the store {self.root} cannot be made ({error}): set KDJAX_STORE to a folder you own'
            ) from error

    def has(self, digest: str) -> bool:
        """Whether the artifact was made."""
        return (self.root / digest / 'info.json').exists()

    def get(self, digest: str) -> Artifact:
        """The artifact. Raises `UserError` if it is not there: ask `has` first."""
        place = self.root / digest
        if not self.has(digest):
            raise UserError(
                f'the store {self.root} has no artifact {digest[:12]}, though it was made: it has to be one folder for '
                'all processes, with room for what they make. Set KDJAX_STORE to such a folder'
            )
        arrays: dict[str, Any] = {}
        if (place / 'arrays').exists():
            with ocp.StandardCheckpointer(**_alone()) as reader:
                arrays = reader.restore(place / 'arrays')
        return Artifact(arrays, json.loads((place / 'info.json').read_text()), digest)

    def put(self, digest: str, arrays: dict[str, Any], info: dict[str, Any]) -> None:
        """Keep an artifact. If another process was first, its copy stays: the content is the same."""
        temporary = pathlib.Path(tempfile.mkdtemp(dir=self.root, prefix='.making-'))
        try:
            if jax.tree.leaves(arrays):
                with ocp.StandardCheckpointer(**_alone()) as writer:
                    writer.save(temporary / 'arrays', arrays)
            (temporary / 'info.json').write_text(json.dumps(finite(info), sort_keys=True))
            with contextlib.suppress(OSError):
                os.rename(temporary, self.root / digest)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        if not self.has(digest):
            raise UserError(f'the store {self.root} did not keep an artifact: is the disk full or read-only?')


def _alone() -> dict[str, Any]:
    """Options by which Orbax waits for no other process: one writes for all, and each reads for itself."""
    if jax.process_count() == 1:
        return {}
    own = jax.process_index()
    return {
        'multiprocessing_options': ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f'alone{own}'
        )
    }
