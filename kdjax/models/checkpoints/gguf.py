"""Checkpoints in GGUF files, as llama.cpp reads them: llama's architecture, read only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.errors import UserError, unknown
from kdjax.models.checkpoints.gguf_file import GGUF
from kdjax.models.checkpoints.renaming import Arrays, Tensor, by_path, linear, nested, norm, table
from kdjax.models.decoder import decoder
from kdjax.models.decoder_config import DecoderConfig
from kdjax.models.model import Model, Variables

PARTS = {
    'attn_q': 'attention/q',
    'attn_k': 'attention/k',
    'attn_v': 'attention/v',
    'attn_output': 'attention/out',
    'ffn_gate': 'mlp/gate',
    'ffn_up': 'mlp/up',
    'ffn_down': 'mlp/down',
}


def read_gguf(path: str | Path, *, dtype: str = 'float32') -> tuple[Model, Variables, dict[str, Any]]:
    """The network, its weights, dequantised, and the metadata of a GGUF file, the tokenizer's among it.

    Tensors may be F32, F16, BF16, Q8_0, Q4_0 or Q4_1. Rows of queries and keys are put back into the order of Hugging
    Face's checkpoints. `gguf_config(metadata)` is the config of the network; `dtype` that of the weights in memory.

    Raises UserError for another architecture, a truncated or foreign file, and tensors that are missing, unknown, or of
    another shape than the metadata say.
    """
    file = GGUF(path)
    config = gguf_config(file.metadata, tied='output.weight' not in file.tensors)
    model = decoder(config)
    leaves = by_path(jax.eval_shape(model.init, jax.random.key(0), None)['params'])
    shapes = {place: tuple(leaf.shape) for place, leaf in leaves.items()}
    wanted = {tensor.theirs: tensor for tensor in _tensors(config)}
    _same_names(file, set(wanted))
    ours: Arrays = {}
    for name, tensor in wanted.items():
        _same_shape(file, name, tensor.shape(shapes))
        parts = tensor.to_ours(_reordered(file.read(name), name, config), shapes)
        ours |= {place: jnp.asarray(part, dtype) for place, part in parts.items()}
    return model, {'params': nested(ours), 'stats': {}}, file.metadata


def gguf_config(metadata: Mapping[str, Any], *, tied: bool = True) -> DecoderConfig:
    """The config that the metadata of a llama file say; whether its head is tied is not in them."""
    architecture = metadata.get('general.architecture', '(none)')
    if architecture != 'llama':
        raise unknown('architecture of a GGUF file', architecture, ['llama'])

    def said(key: str, default: Any = None) -> Any:
        value = metadata.get(f'llama.{key}', default)
        if value is None:
            raise UserError(f"the GGUF file has no 'llama.{key}' in its metadata: is it a whole checkpoint?")
        return value

    if said('rope.scaling.type', 'none') != 'none':
        raise UserError(f'the GGUF file scales RoPE ({said("rope.scaling.type")}), which is not read: use another file')
    heads, width = said('attention.head_count'), said('embedding_length')
    return DecoderConfig(
        vocabulary=said('vocab_size', len(metadata.get('tokenizer.ggml.tokens', ())) or None),
        width=width,
        depth=said('block_count'),
        heads=heads,
        hidden=said('feed_forward_length'),
        kv_heads=said('attention.head_count_kv', heads),
        head_width=said('attention.key_length', width // heads),
        context=said('context_length'),
        rope_theta=float(said('rope.freq_base', 10000.0)),
        epsilon=float(f'{said("attention.layer_norm_rms_epsilon"):.6g}'),
        tied=tied,
    )


def _tensors(config: DecoderConfig) -> list[Tensor]:
    named = [table('token_embd', 'embedding'), *norm('output_norm', 'norm', bias=False)]
    for i in range(config.depth):
        named += norm(f'blk.{i}.attn_norm', f'blocks/{i}/norm1', bias=False)
        named += norm(f'blk.{i}.ffn_norm', f'blocks/{i}/norm2', bias=False)
        for theirs, ours in PARTS.items():
            named += linear(f'blk.{i}.{theirs}', f'blocks/{i}/{ours}', bias=False)
    return named if config.tied else [*named, table('output', 'head')]


def _reordered(array: np.ndarray, name: str, config: DecoderConfig) -> np.ndarray:
    """Rows of a head lie there as features 0, half, 1, half + 1, ...: RoPE turns neighbours."""
    heads = {'attn_q': config.heads, 'attn_k': config.kv_heads}.get(name.split('.')[-2])
    if heads is None:
        return array
    return array.reshape(heads, -1, 2, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)


def _same_names(file: GGUF, wanted: set[str]) -> None:
    for names, say in ((wanted - set(file.tensors), 'lacks'), (set(file.tensors) - wanted, 'also holds')):
        if names:
            raise UserError(
                f"'{file.path}' {say} {', '.join(sorted(names)[:3])} ({len(names)} in all), "
                'unlike a llama of the size that its metadata say: use another file'
            )


def _same_shape(file: GGUF, name: str, shape: tuple[int, ...]) -> None:
    if file.tensors[name].shape != shape:
        raise UserError(
            f"'{file.path}': {name} has the shape {file.tensors[name].shape}, its metadata say {shape}: fetch it again"
        )
