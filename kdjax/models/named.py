"""Models by name: what a configuration or a command line says."""

from __future__ import annotations

import re
from typing import Any

import jax.numpy as jnp

from kdjax.errors import UserError, unknown
from kdjax.models.convnet import convnet, suiting_depth
from kdjax.models.decoder_config import DecoderConfig, gpt2_config
from kdjax.models.mlp import mlp
from kdjax.models.model import Model
from kdjax.models.resnet import resnet, wide_resnet
from kdjax.models.vit import vit

GRAMMAR = (
    'mlp-WIDTH-WIDTH..., resnetDEPTH or resnetDEPTHx4 (depth 6n + 2), wrn-DEPTH-FACTOR (depth 6n + 4), '
    'vit-WIDTH-DEPTH[-pPATCH][-hHEADS][-token], convnet-WIDTH[-DEPTH]'
)
EXAMPLES = (
    'mlp-256',
    'mlp-256-256',
    'resnet8',
    'resnet14',
    'resnet20',
    'resnet32',
    'resnet44',
    'resnet56',
    'resnet110',
    'resnet8x4',
    'resnet32x4',
    'wrn-16-1',
    'wrn-16-2',
    'wrn-40-1',
    'wrn-40-2',
    'vit-64-4',
    'vit-64-4-p2-h8',
    'convnet-32-3',
    'convnet-128-3',
)

LANGUAGE_EXAMPLES = ('llama-64-2', 'llama-128-4', 'llama-64-2-h4', 'gpt2-64-2', 'gpt2-64-2-h4')
HEAD_WIDTH = 32

_MLP = re.compile(r'mlp((?:-\d+)+)')
_RESNET = re.compile(r'resnet(\d+)(x4)?')
_CONVNET = re.compile(r'convnet-(\d+)(?:-(\d+))?')
_WRN = re.compile(r'wrn-(\d+)-(\d+)')
_DECODER = re.compile(r'(llama|gpt2)-(\d+)-(\d+)(?:-h(\d+))?')
_VIT = re.compile(r'vit-(\d+)-(\d+)(?:-p(\d+))?(?:-h(\d+))?(-token)?')


def named(
    spec: str,
    *,
    classes: int,
    image_shape: tuple[int, int, int],
    norm: str = 'batch',
    dtype: Any = jnp.float32,
) -> Model:
    """The model that a specification names, for images `[batch, *image_shape]` of so many classes.

    spec: `mlp-256-256`, `resnet8`, `resnet8x4`, `wrn-16-2`, `vit-64-4` (width, depth; `-p2` patch, `-h8`
        heads, `-token` class token instead of mean pooling), `convnet-32-3`, or `convnet-32` with `suiting_depth`
        blocks. Taps: see `models.mlp`, `.resnet`, `.vit` and `.convnet`.
    norm: 'batch' or 'group' ('none' for an MLP, 'none' and 'instance' for a ConvNet); a ViT has LayerNorm whatever
        this says.
    Raises UserError for an unknown specification, with the nearest known one and the grammar.
    """
    options: dict[str, Any] = {'classes': classes, 'image_shape': tuple(image_shape), 'dtype': dtype}
    if found := _MLP.fullmatch(spec):
        return mlp([int(width) for width in found[1].split('-')[1:]], norm=norm, **options)
    if found := _RESNET.fullmatch(spec):
        return resnet(int(found[1]), wide=bool(found[2]), norm=norm, **options)
    if found := _WRN.fullmatch(spec):
        return wide_resnet(int(found[1]), int(found[2]), norm=norm, **options)
    if found := _CONVNET.fullmatch(spec):
        depth = int(found[2] or suiting_depth(options['image_shape']))
        return convnet(int(found[1]), depth, norm=norm, **options)
    if found := _VIT.fullmatch(spec):
        width, depth, patch = int(found[1]), int(found[2]), None if found[3] is None else int(found[3])
        pooling = 'token' if found[5] else 'mean'
        return vit(width, depth, patch=patch, heads=int(found[4] or 4), pooling=pooling, **options)
    raise UserError(f'{unknown("model", spec, EXAMPLES)}; grammar: {GRAMMAR}')


def named_decoder(spec: str, *, vocabulary: int, context: int) -> DecoderConfig:
    """The sizes that a specification names: `llama-128-4` or `gpt2-128-4` (width, depth; `-h4` heads).

    Heads are 32 wide unless said, and at least one. A Llama's MLP has 8/3 of the width, up to a multiple of 8.
    Raises UserError for an unknown specification, with the nearest known one.
    """
    if not (found := _DECODER.fullmatch(spec)):
        raise UserError(
            f'{unknown("language model", spec, LANGUAGE_EXAMPLES)}; grammar: llama-WIDTH-DEPTH[-hHEADS], gpt2-...'
        )
    width, depth = int(found[2]), int(found[3])
    heads = int(found[4] or max(1, width // HEAD_WIDTH))
    if found[1] == 'gpt2':
        return gpt2_config(vocabulary, width, depth, heads, context)
    return DecoderConfig(vocabulary, width, depth, heads, -(-8 * width // 24) * 8, context=context)
