"""Checkpoints in the layout of Hugging Face: a folder with config.json and safetensors, in and out."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.errors import UserError, unknown
from kdjax.models.checkpoints import bert, gpt2, llama
from kdjax.models.checkpoints.checkpoint import Checkpoint, Config, built
from kdjax.models.checkpoints.family import Family
from kdjax.models.checkpoints.renaming import Arrays, Tensor, by_path, nested
from kdjax.models.checkpoints.safetensors_files import Tensors, write_tensors
from kdjax.models.model import Model, Variables

FAMILIES: dict[str, Family] = llama.FAMILIES | gpt2.FAMILIES | bert.FAMILIES
DTYPES = ('float32', 'bfloat16', 'float16')
KINDS = ('F32', 'BF16', 'F16', 'F64')
TOKENS = ('bos_token_id', 'eos_token_id', 'pad_token_id')


def read_checkpoint(folder: str | Path, *, dtype: str = 'float32') -> tuple[Model, Variables, Checkpoint]:
    """The network, its weights and the rest of a checkpoint.

    folder: with config.json and model.safetensors, or several files and model.safetensors.index.json.
    dtype: of the weights in memory, whatever it is in the file. `models.model.under` sets that of the activations.

    Raises UserError for an architecture that kdjax lacks, files that are truncated or foreign, tensors that are
    missing, unknown, or of another shape than config.json says, and pickles, which are never read.
    """
    folder = Path(folder)
    _known_dtype(dtype)
    tensors = Tensors(folder)
    settings = _settings(folder / 'config.json')
    architecture, family = _family(folder, settings)
    config = family.config(settings, tensors.names)
    model = built(config)
    shapes = {path: tuple(leaf.shape) for path, leaf in by_path(_shapes(model)).items()}
    ours: Arrays = {}
    for tensor, name in _matched(family, config, tensors, shapes, folder):
        parts = tensor.to_ours(tensors.read(name), shapes)
        ours |= {path: jnp.asarray(part, dtype) for path, part in parts.items()}
    info = Checkpoint(config, architecture, settings, (folder / 'config.json', *tensors.files))
    return model, {'params': nested(ours), 'stats': {}}, info


def _known_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise unknown('dtype of a checkpoint', dtype, DTYPES)


def _settings(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(f"'{file}' does not exist: a checkpoint is a folder with config.json and weights") from None
    except ValueError as error:
        raise UserError(f"'{file}' is not JSON ({error}): fetch it again") from error
    if not isinstance(settings, dict):
        raise UserError(f"'{file}' holds no settings: fetch it again")
    return settings


def _family(folder: Path, settings: Mapping[str, Any]) -> tuple[str, Family]:
    said = settings.get('architectures') or ['(none)']
    if said[0] not in FAMILIES:
        raise unknown(f"architecture in '{folder / 'config.json'}'", said[0], FAMILIES)
    if settings.get('quantization_config'):
        raise UserError(f"'{folder}' is quantised: use the checkpoint that it was made from, or its GGUF file")
    return said[0], FAMILIES[said[0]]


def _shapes(model: Model) -> Any:
    return jax.eval_shape(model.init, jax.random.key(0), None)['params']


def _matched(
    family: Family, config: Config, tensors: Tensors, shapes: Mapping[str, tuple[int, ...]], folder: Path
) -> list[tuple[Tensor, str]]:
    """Each tensor that the config needs, with its name in the files; none is missing, too many or of another shape."""
    found = {_plain(name, family.prefix): name for name in tensors.names}
    wanted = {_plain(tensor.theirs, family.prefix): tensor for tensor in family.tensors(config)}
    if missing := sorted(wanted[plain].theirs for plain in wanted.keys() - found.keys()):
        raise UserError(f"'{folder}': {_few(missing)} missing for its config.json: fetch the folder again")
    skipped = [re.compile(pattern) for pattern in family.ignored(config)]
    extra = sorted(found[plain] for plain in found.keys() - wanted.keys())
    if extra := [name for name in extra if not any(pattern.search(name) for pattern in skipped)]:
        raise UserError(f"'{folder}': {_few(extra)} too many for config.json: is it the config of these weights?")
    for plain, tensor in wanted.items():
        _check(tensors, found[plain], tensor.shape(shapes))
    return [(tensor, found[plain]) for plain, tensor in wanted.items()]


def _plain(name: str, prefix: str) -> str:
    """Without the prefix, and in the spelling of today."""
    name = name.removeprefix(prefix)
    return name.replace('LayerNorm.gamma', 'LayerNorm.weight').replace('LayerNorm.beta', 'LayerNorm.bias')


def _few(names: list[str]) -> str:
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return f"{', '.join(names[:3])}{more} {'are' if len(names) > 1 else 'is'}"


def _check(tensors: Tensors, name: str, shape: tuple[int, ...]) -> None:
    if tensors.shape(name) != shape:
        raise UserError(
            f"'{tensors.file(name)}': {name} has the shape {tensors.shape(name)}, config.json says {shape}: "
            'use the config.json and the weights of one model'
        )
    if tensors.dtype(name) not in KINDS:
        raise UserError(f"'{tensors.file(name)}': {name} is {tensors.dtype(name)}, not one of {', '.join(KINDS)}")


def write_checkpoint(
    config: Config,
    variables: Variables,
    folder: str | Path,
    *,
    dtype: str = 'float32',
    shard_bytes: int = 5_000_000_000,
    settings: Mapping[str, Any] | None = None,
    beside: Callable[[Path], None] | None = None,
) -> Path:
    """Write a checkpoint that `transformers` loads; the folder appears whole or not at all.

    folder: must not exist, or be empty. shard_bytes: weights above this are several files with an index.
    settings: more entries for config.json, such as `eos_token_id`. beside(folder): writes more files, such as those of
        a tokenizer, before the folder appears.

    Raises UserError where the folder is taken, where no public architecture has the form of the config, or where the
    variables are those of another config.
    """
    folder = Path(folder)
    _known_dtype(dtype)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"'{folder}' is already there: write to another folder, or remove it")
    architecture, family = _fitting(config)
    arrays = _arrays(config, variables)
    said = {'architectures': [architecture], 'torch_dtype': dtype, **dict.fromkeys(TOKENS), **family.settings(config)}
    said |= settings or {}
    with _appearing(folder) as making:
        (making / 'config.json').write_text(json.dumps(said, indent=2, sort_keys=True) + '\n')
        stored = {tensor.theirs: tensor.to_theirs(arrays).astype(jnp.dtype(dtype)) for tensor in family.tensors(config)}
        write_tensors(making, stored, shard_bytes=shard_bytes)
        if beside is not None:
            beside(making)
    return folder


def _fitting(config: Config) -> tuple[str, Family]:
    for architecture, family in FAMILIES.items():
        if family.fits(config):
            return architecture, family
    raise UserError(f'{config} has the form of none of {", ".join(FAMILIES)}: only these are written')


def _arrays(config: Config, variables: Variables) -> dict[str, np.ndarray]:
    expected = {path: tuple(leaf.shape) for path, leaf in by_path(_shapes(built(config))).items()}
    held = by_path(variables['params'])
    for path in sorted(expected.keys() | held.keys()):
        shape = tuple(held[path].shape) if path in held else None
        if shape != expected.get(path):
            raise UserError(
                f'{path} has the shape {shape}, the config says {expected.get(path)}: '
                'these are the variables of another network'
            )
    return {path: np.asarray(jax.device_get(leaf)) for path, leaf in held.items()}


@contextlib.contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A temporary folder beside it, which takes its place if all goes well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f'.{folder.name}-'))
    try:
        yield making
        making.chmod(0o755)
        os.replace(making, folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
