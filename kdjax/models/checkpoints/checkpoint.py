"""What is known of a checkpoint beside its weights, whatever the kind of its files."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdjax.models.decoder import decoder
from kdjax.models.decoder_config import DecoderConfig
from kdjax.models.encoder import EncoderConfig, encoder
from kdjax.models.model import Model

Config = DecoderConfig | EncoderConfig


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Of a folder or of a GGUF file.

    config: ours. architecture: as the files call it. settings: all of config.json, or of a GGUF file's metadata.
    files: those that hold it.
    """

    config: Config
    architecture: str
    settings: Mapping[str, Any]
    files: tuple[Path, ...]

    @functools.cached_property
    def identity(self) -> str:
        """sha256 of the files: of the weights, whatever the folder is called."""
        whole = hashlib.sha256()
        for file in self.files:
            with file.open('rb') as opened:
                whole.update(hashlib.file_digest(opened, 'sha256').digest())
        return whole.hexdigest()


def built(config: Config, **how: Any) -> Model:
    """The network of a config."""
    return decoder(config, **how) if isinstance(config, DecoderConfig) else encoder(config, **how)
