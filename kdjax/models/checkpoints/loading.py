"""A checkpoint of whatever kind lies at a path."""

from __future__ import annotations

from pathlib import Path

from kdjax.models.checkpoints.checkpoint import Checkpoint
from kdjax.models.checkpoints.gguf import gguf_config, read_gguf
from kdjax.models.checkpoints.huggingface import read_checkpoint
from kdjax.models.model import Model, Variables


def load(path: str | Path, *, dtype: str = 'float32') -> tuple[Model, Variables, Checkpoint]:
    """The network, its weights and the rest of a Hugging Face folder, or of a `.gguf` file.

    dtype: of the weights in memory. Raises UserError as `read_checkpoint` and `read_gguf` do.
    """
    path = Path(path)
    if path.suffix != '.gguf':
        return read_checkpoint(path, dtype=dtype)
    model, variables, metadata = read_gguf(path, dtype=dtype)
    config = gguf_config(metadata, tied='head' not in variables['params'])
    return model, variables, Checkpoint(config, metadata['general.architecture'], metadata, (path,))
