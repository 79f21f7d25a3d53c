"""GPT-2."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kdjax.models.checkpoints.family import Family, Settings, needed, only
from kdjax.models.checkpoints.renaming import Tensor, linear, norm, table
from kdjax.models.decoder_config import DecoderConfig

SIZES = {'vocab_size': 'vocabulary', 'n_embd': 'width', 'n_layer': 'depth', 'n_head': 'heads'}


def tensors(config: DecoderConfig) -> list[Tensor]:
    """Its linear layers lie as `[inputs, outputs]`, and queries, keys and values in one."""
    named = [table('transformer.wte', 'embedding'), table('transformer.wpe', 'position')]
    named += norm('transformer.ln_f', 'norm', bias=True)
    for i in range(config.depth):
        theirs, ours = f'transformer.h.{i}', f'blocks/{i}'
        named += norm(f'{theirs}.ln_1', f'{ours}/norm1', bias=True) + norm(f'{theirs}.ln_2', f'{ours}/norm2', bias=True)
        parts = {
            'attn.c_attn': [f'attention/{part}' for part in 'qkv'],
            'attn.c_proj': ['attention/out'],
            'mlp.c_fc': ['mlp/up'],
            'mlp.c_proj': ['mlp/down'],
        }
        for name, paths in parts.items():
            named += linear(f'{theirs}.{name}', *(f'{ours}/{path}' for path in paths), bias=True, turned=False)
    return named if config.tied else [*named, table('lm_head', 'head')]


def ignored(config: DecoderConfig) -> tuple[str, ...]:
    return (r'\battn\.(masked_)?bias$', *((r'^lm_head\.weight$',) if config.tied else ()))


def _config(settings: Settings, names: Collection[str]) -> DecoderConfig:
    only(settings, 'activation_function', 'gelu_new', 'gelu_pytorch_tanh')
    only(settings, 'scale_attn_weights', True)
    only(settings, 'scale_attn_by_inverse_layer_idx', False)
    sizes = dict(zip(SIZES.values(), needed(settings, *SIZES), strict=True))
    return DecoderConfig(
        **sizes,
        hidden=settings.get('n_inner') or 4 * sizes['width'],
        context=settings.get('n_positions', 1024),
        positions='learned',
        norm='layer',
        epsilon=settings.get('layer_norm_epsilon', 1e-5),
        mlp='gelu',
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        tied=settings.get('tie_word_embeddings', True),
    )


def _settings(config: DecoderConfig) -> dict[str, Any]:
    return {
        'model_type': 'gpt2',
        **{theirs: getattr(config, ours) for theirs, ours in SIZES.items()},
        'n_inner': config.hidden,
        'n_positions': config.context,
        'activation_function': 'gelu_new',
        'layer_norm_epsilon': config.epsilon,
        'tie_word_embeddings': config.tied,
    }


def _fits(config: Any) -> bool:
    if not isinstance(config, DecoderConfig) or config.attention_cap or config.logit_cap or config.qk_norm:
        return False
    form = (config.positions, config.norm, config.mlp, config.qkv_bias, config.out_bias, config.mlp_bias)
    whole = config.kv_heads == config.heads and config.head_width * config.heads == config.width
    return whole and form == ('learned', 'layer', 'gelu', True, True, True)


FAMILIES = {'GPT2LMHeadModel': Family(_config, tensors, 'transformer.', ignored, _settings, _fits)}
