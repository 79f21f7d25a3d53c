"""Llama, Mistral, Qwen2 and Qwen3: one network, four dialects of config.json."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kdjax.errors import UserError
from kdjax.models.checkpoints.family import Family, Settings, needed, only
from kdjax.models.checkpoints.renaming import Tensor, linear, norm, table
from kdjax.models.decoder_config import DecoderConfig
from kdjax.models.rope import LlamaScaling

SIZES = {
    'vocab_size': 'vocabulary',
    'hidden_size': 'width',
    'num_hidden_layers': 'depth',
    'num_attention_heads': 'heads',
    'intermediate_size': 'hidden',
}
OPTIONAL = {'num_key_value_heads': 'kv_heads', 'head_dim': 'head_width'}


def tensors(config: DecoderConfig) -> list[Tensor]:
    named = [table('model.embed_tokens', 'embedding'), *norm('model.norm', 'norm', bias=False)]
    for i in range(config.depth):
        named += _block(config, f'model.layers.{i}', f'blocks/{i}')
    return named if config.tied else [*named, table('lm_head', 'head')]


def _block(config: DecoderConfig, theirs: str, ours: str) -> list[Tensor]:
    named = norm(f'{theirs}.input_layernorm', f'{ours}/norm1', bias=False)
    named += norm(f'{theirs}.post_attention_layernorm', f'{ours}/norm2', bias=False)
    for part in 'qkv':
        named += linear(f'{theirs}.self_attn.{part}_proj', f'{ours}/attention/{part}', bias=config.qkv_bias)
    named += linear(f'{theirs}.self_attn.o_proj', f'{ours}/attention/out', bias=config.out_bias)
    for part in ('gate', 'up', 'down'):
        named += linear(f'{theirs}.mlp.{part}_proj', f'{ours}/mlp/{part}', bias=config.mlp_bias)
    if config.qk_norm:
        for part in 'qk':
            named += norm(f'{theirs}.self_attn.{part}_norm', f'{ours}/attention/{part}_norm', bias=False)
    return named


def ignored(config: DecoderConfig) -> tuple[str, ...]:
    return (r'rotary_emb\.inv_freq$', *((r'^lm_head\.weight$',) if config.tied else ()))


def _read(settings: Settings, *, tied: bool = False, **form: Any) -> DecoderConfig:
    only(settings, 'hidden_act', 'silu')
    only(settings, 'partial_rotary_factor', 1.0, 1, None)
    sizes: dict[str, Any] = dict(zip(SIZES.values(), needed(settings, *SIZES), strict=True))
    sizes |= {ours: settings[theirs] for theirs, ours in OPTIONAL.items() if settings.get(theirs)}
    theta, scaling = _rope(settings)
    return DecoderConfig(
        **sizes,
        context=settings.get('max_position_embeddings', 2048),
        rope_theta=theta,
        rope_scaling=scaling,
        epsilon=settings.get('rms_norm_eps', 1e-6),
        tied=settings.get('tie_word_embeddings', tied),
        **form,
    )


def _llama(settings: Settings, names: Collection[str]) -> DecoderConfig:
    bias = settings.get('attention_bias', False)
    return _read(settings, qkv_bias=bias, out_bias=bias, mlp_bias=settings.get('mlp_bias', False))


def _mistral(settings: Settings, names: Collection[str]) -> DecoderConfig:
    only(settings, 'sliding_window', None, settings.get('max_position_embeddings'))
    return _read(settings)


def _qwen2(settings: Settings, names: Collection[str]) -> DecoderConfig:
    only(settings, 'use_sliding_window', False)
    return _read(settings, qkv_bias=True)


def _qwen3(settings: Settings, names: Collection[str]) -> DecoderConfig:
    only(settings, 'use_sliding_window', False)
    bias = settings.get('attention_bias', False)
    return _read({'head_dim': 128, **settings}, qkv_bias=bias, out_bias=bias, qk_norm=True)


def _rope(settings: Settings) -> tuple[float, LlamaScaling | None]:
    """Theta and scaling; transformers 5 has both in `rope_parameters`, 4 had `rope_theta` and `rope_scaling`."""
    said = settings.get('rope_parameters') or settings.get('rope_scaling') or {}
    theta = float(said.get('rope_theta') or settings.get('rope_theta') or 10000.0)
    kind = said.get('rope_type', said.get('type', 'default'))
    if kind == 'default':
        return theta, None
    if kind != 'llama3':
        raise UserError(f"config.json: RoPE of type '{kind}'; kdjax has 'default' and 'llama3': use another checkpoint")
    factor, low, high, original = needed(
        said, 'factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'
    )
    return theta, LlamaScaling(float(factor), float(low), float(high), int(original))


def _written(config: DecoderConfig, model_type: str, **form: Any) -> dict[str, Any]:
    scaling = config.rope_scaling
    return {
        'model_type': model_type,
        **{theirs: getattr(config, ours) for theirs, ours in SIZES.items()},
        **{theirs: getattr(config, ours) for theirs, ours in OPTIONAL.items()},
        'hidden_act': 'silu',
        'max_position_embeddings': config.context,
        'rms_norm_eps': config.epsilon,
        'rope_theta': config.rope_theta,
        'rope_scaling': scaling and {
            'rope_type': 'llama3',
            'factor': scaling.factor,
            'low_freq_factor': scaling.low,
            'high_freq_factor': scaling.high,
            'original_max_position_embeddings': scaling.original_context,
        },
        'tie_word_embeddings': config.tied,
        **form,
    }  # fmt: skip


def _llama_settings(config: DecoderConfig) -> dict[str, Any]:
    return _written(config, 'llama', attention_bias=config.qkv_bias, mlp_bias=config.mlp_bias)


def _qwen2_settings(config: DecoderConfig) -> dict[str, Any]:
    return _written(config, 'qwen2', use_sliding_window=False)


def _qwen3_settings(config: DecoderConfig) -> dict[str, Any]:
    return _written(config, 'qwen3', attention_bias=config.qkv_bias, use_sliding_window=False)


def _like_llama(config: Any) -> bool:
    if not isinstance(config, DecoderConfig) or config.attention_cap or config.logit_cap:
        return False
    return (config.positions, config.norm, config.mlp) == ('rope', 'rms', 'swiglu')


def _is_llama(config: Any) -> bool:
    return _like_llama(config) and not config.qk_norm and config.qkv_bias == config.out_bias


def _is_qwen2(config: Any) -> bool:
    return _like_llama(config) and (config.qk_norm, config.qkv_bias, config.out_bias, config.mlp_bias) == (
        False, True, False, False,
    )  # fmt: skip


def _is_qwen3(config: Any) -> bool:
    return _like_llama(config) and config.qk_norm and config.qkv_bias == config.out_bias and not config.mlp_bias


FAMILIES = {
    'LlamaForCausalLM': Family(_llama, tensors, 'model.', ignored, _llama_settings, _is_llama),
    'Qwen2ForCausalLM': Family(_qwen2, tensors, 'model.', ignored, _qwen2_settings, _is_qwen2),
    'Qwen3ForCausalLM': Family(_qwen3, tensors, 'model.', ignored, _qwen3_settings, _is_qwen3),
    'MistralForCausalLM': Family(_mistral, tensors, 'model.', ignored, _llama_settings, lambda config: False),
}
