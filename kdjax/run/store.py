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

    def get(self, digest: str) -> Artifact | None:
        """The artifact, or None if it was never made."""
        place = self.root / digest
        if not (place / 'info.json').exists():
            return None
        arrays: dict[str, Any] = {}
        if (place / 'arrays').exists():
            with ocp.StandardCheckpointer() as reader:
                arrays = reader.restore(place / 'arrays')
        return Artifact(arrays, json.loads((place / 'info.json').read_text()), digest)

    def put(self, digest: str, arrays: dict[str, Any], info: dict[str, Any]) -> Artifact:
        """Keep an artifact. If another process was first, its copy stays: the content is the same."""
        temporary = pathlib.Path(tempfile.mkdtemp(dir=self.root, prefix='.making-'))
        try:
            if jax.tree.leaves(arrays):
                with ocp.StandardCheckpointer() as writer:
                    writer.save(temporary / 'arrays', arrays)
            (temporary / 'info.json').write_text(json.dumps(finite(info), sort_keys=True))
            with contextlib.suppress(OSError):
                os.rename(temporary, self.root / digest)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        kept = self.get(digest)
        if kept is None:
            raise UserError(f'the store {self.root} did not keep an artifact: is the disk full or read-only?')
        return kept
