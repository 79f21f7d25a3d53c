"""Tensors in safetensors files, one or several: a header of names, types and places, then bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save_file

from kdjax.errors import UserError

SINGLE, INDEX = 'model.safetensors', 'model.safetensors.index.json'
PICKLES = ('*.bin', '*.pt', '*.pth', '*.ckpt', '*.pkl')


class Tensors:
    """Every tensor of a folder, read when asked for. Raises `UserError` for what is missing, damaged or foreign."""

    def __init__(self, folder: Path):
        self.files = _files(folder)
        self._of: dict[str, tuple[Path, safetensors.safe_open]] = {}
        for file in self.files:
            opened = _opened(file)
            self._of |= dict.fromkeys(opened.keys(), (file, opened))

    @property
    def names(self) -> list[str]:
        return list(self._of)

    def file(self, name: str) -> Path:
        return self._of[name][0]

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._of[name][1].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """As the format calls it: 'F32', 'BF16' ..."""
        return self._of[name][1].get_slice(name).get_dtype()

    def read(self, name: str) -> np.ndarray:
        return self._of[name][1].get_tensor(name)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder: a checkpoint is a folder with config.json and {SINGLE}")
    if (folder / INDEX).exists():
        return _indexed(folder)
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if pickles:
        raise UserError(
            f"'{folder}' holds {pickles[0]}, a pickle, which can execute any code when it is read: "
            f'convert it to {SINGLE} where you trust it (`save_pretrained` of transformers writes one)'
        )
    raise UserError(f"'{folder}' has no {SINGLE} and no {INDEX}: is the download complete?")


def _indexed(folder: Path) -> list[Path]:
    try:
        parts = sorted(set(json.loads((folder / INDEX).read_text())['weight_map'].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"'{folder / INDEX}' is no index of safetensors files ({error}): fetch it again") from error
    for part in parts:
        if Path(part).name != part:
            raise UserError(f"'{folder / INDEX}' names '{part}', no file of its own folder: do not trust it")
        if not (folder / part).is_file():
            raise UserError(f"'{folder}' lacks {part}, which {INDEX} names: fetch it again")
    return [folder / part for part in parts]


def _opened(file: Path) -> safetensors.safe_open:
    try:
        return safetensors.safe_open(file, 'numpy')
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"'{file}' is truncated, or no safetensors file ({error}): fetch it again") from error


def write_tensors(folder: Path, arrays: Mapping[str, np.ndarray], *, shard_bytes: int) -> None:
    """One file, or as many of at most `shard_bytes` as it takes, and then an index of them."""
    shards: list[dict[str, np.ndarray]] = [{}]
    held = 0
    for name, array in arrays.items():
        if shards[-1] and held + array.nbytes > shard_bytes:
            shards.append({})
            held = 0
        shards[-1][name] = np.ascontiguousarray(array)
        held += array.nbytes
    if len(shards) == 1:
        save_file(shards[0], folder / SINGLE, metadata={'format': 'pt'})
        return
    places: dict[str, str] = {}
    for i, shard in enumerate(shards, start=1):
        part = f'model-{i:05d}-of-{len(shards):05d}.safetensors'
        save_file(shard, folder / part, metadata={'format': 'pt'})
        places |= dict.fromkeys(shard, part)
    total = sum(array.nbytes for shard in shards for array in shard.values())
    index = {'metadata': {'total_size': total}, 'weight_map': places}
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + '\n')
