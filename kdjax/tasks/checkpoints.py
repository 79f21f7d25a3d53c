"""Public checkpoints as teachers and students: by a path or a name, with their tokenizers, or cut from another."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax

from kdjax.data import assets
from kdjax.data.tokenizers import BPETokenizer, ByteTokenizer, Tokenizer
from kdjax.errors import UserError, unknown
from kdjax.models.checkpoints import load
from kdjax.models.checkpoints.checkpoint import built
from kdjax.models.checkpoints.huggingface import FAMILIES
from kdjax.models.decoder_config import DecoderConfig
from kdjax.models.model import Model, Variables
from kdjax.surgery.shrinking import read_sizes, shrink

SHRINK = 'shrink:'


@dataclasses.dataclass(frozen=True, eq=False)
class Loaded:
    """A decoder with its weights.

    said: what it was asked for as. identity: sha256 of its files, and what was cut from them. tokenizer: if it has one.
    """

    said: str
    config: DecoderConfig
    model: Model
    variables: Variables
    identity: str
    tokenizer: Tokenizer | None


def load_decoder(said: str, *, dtype: str = 'float32') -> Loaded:
    """A Hugging Face folder, a .gguf file, or an asset by its name. dtype: of the weights in memory.

    Raises UserError where there is nothing of that name, where it is no decoder, and as `checkpoints.load`.
    """
    place = _place(said)
    model, variables, checkpoint = load(place, dtype=dtype)
    if not isinstance(checkpoint.config, DecoderConfig):
        raise UserError(f"'{said}' is {checkpoint.architecture}, no language model that says the next token")
    if place.suffix == '.gguf':
        tokenizer: Tokenizer | None = BPETokenizer.from_gguf(checkpoint.settings)
    else:
        tokenizer = BPETokenizer.from_file(place) if (place / 'tokenizer.json').is_file() else None
    return Loaded(said, checkpoint.config, model, variables, checkpoint.identity, tokenizer)


def load_student(said: str, teacher: Loaded) -> Loaded:
    """Likewise, or 'shrink:layers=6,width=512', cut from the teacher (`kdjax.surgery.shrink`); weights in float32.

    Raises UserError also where no public architecture has the form of what was cut, so that it could not be written.
    """
    if not said.startswith(SHRINK):
        return load_decoder(said)
    config, cut = shrink(teacher.config, teacher.variables, **read_sizes(said.removeprefix(SHRINK)))
    if not any(family.fits(config) for family in FAMILIES.values()):
        raise UserError(f"student '{said}': {config} has no public architecture's form: cut layers or hidden alone")
    variables = jax.tree.map(lambda leaf: leaf.astype('float32'), cut)
    return Loaded(said, config, built(config), variables, f'{teacher.identity} {said}', teacher.tokenizer)


def load_tokenizer(said: str) -> Tokenizer:
    """'bytes', or a tokenizer.json, the folder of one, or whatever `load_decoder` takes."""
    if said == 'bytes':
        return ByteTokenizer()
    place = _place(said)
    if place.suffix == '.gguf':
        from kdjax.models.checkpoints.gguf_file import GGUF

        return BPETokenizer.from_gguf(GGUF(place).metadata)
    return BPETokenizer.from_file(place)


def _place(said: str) -> Path:
    if said in assets.ASSETS:
        return assets.path(said)
    place = Path(said).expanduser()
    if not place.exists():
        raise unknown('checkpoint, no folder or file and no asset called', said, assets.ASSETS)
    return place
