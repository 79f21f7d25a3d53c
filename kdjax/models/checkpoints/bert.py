"""BERT, and what is built like it (MiniLM, sentence encoders)."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

from kdjax.models.checkpoints.family import Family, Settings, needed, only
from kdjax.models.checkpoints.renaming import Tensor, linear, norm, table
from kdjax.models.encoder import EncoderConfig

SIZES = {
    'vocab_size': 'vocabulary',
    'hidden_size': 'width',
    'num_hidden_layers': 'depth',
    'num_attention_heads': 'heads',
    'intermediate_size': 'hidden',
    'max_position_embeddings': 'context',
    'type_vocab_size': 'types',
}
PARTS = {
    'attention.self.query': 'attention/q',
    'attention.self.key': 'attention/k',
    'attention.self.value': 'attention/v',
    'attention.output.dense': 'attention/out',
    'intermediate.dense': 'mlp/up',
    'output.dense': 'mlp/down',
}


def tensors(prefix: str, config: EncoderConfig) -> list[Tensor]:
    named = [
        table(f'{prefix}embeddings.word_embeddings', 'embedding'),
        table(f'{prefix}embeddings.position_embeddings', 'position'),
        table(f'{prefix}embeddings.token_type_embeddings', 'type'),
        *norm(f'{prefix}embeddings.LayerNorm', 'norm', bias=True),
    ]
    for i in range(config.depth):
        theirs, ours = f'{prefix}encoder.layer.{i}', f'blocks/{i}'
        for part, path in PARTS.items():
            named += linear(f'{theirs}.{part}', f'{ours}/{path}', bias=True)
        named += norm(f'{theirs}.attention.output.LayerNorm', f'{ours}/norm1', bias=True)
        named += norm(f'{theirs}.output.LayerNorm', f'{ours}/norm2', bias=True)
    if config.pooler:
        named += linear(f'{prefix}pooler.dense', 'pooler', bias=True)
    if config.masked_lm:
        named += linear('cls.predictions.transform.dense', 'masked_lm/dense', bias=True)
        named += norm('cls.predictions.transform.LayerNorm', 'masked_lm/norm', bias=True)
        named += [Tensor('cls.predictions.bias', ('masked_lm/bias',))]
    return named


def ignored(config: EncoderConfig) -> tuple[str, ...]:
    """Copies of the embedding and of the bias, and heads that were trained along and are not used."""
    unused = () if config.masked_lm else (r'^cls\.predictions\.',)
    unpooled = () if config.pooler else (r'^(bert\.)?pooler\.',)
    return (r'position_ids$', r'^cls\.seq_relationship\.', r'^cls\.predictions\.decoder\.', *unused, *unpooled)


def _config(masked_lm: bool, settings: Settings, names: Collection[str]) -> EncoderConfig:
    only(settings, 'hidden_act', 'gelu')
    only(settings, 'position_embedding_type', 'absolute')
    only(settings, 'is_decoder', False)
    only(settings, 'tie_word_embeddings', True)
    pooler = not masked_lm and any(name.endswith('pooler.dense.weight') for name in names)
    return EncoderConfig(
        **dict(zip(SIZES.values(), needed({'type_vocab_size': 2, **settings}, *SIZES), strict=True)),
        epsilon=settings.get('layer_norm_eps', 1e-12),
        masked_lm=masked_lm,
        pooler=pooler,
    )


def _settings(config: EncoderConfig) -> dict[str, Any]:
    sizes = {theirs: getattr(config, ours) for theirs, ours in SIZES.items()}
    return {'model_type': 'bert', **sizes, 'hidden_act': 'gelu', 'layer_norm_eps': config.epsilon}


def _fits(masked_lm: bool, config: Any) -> bool:
    return isinstance(config, EncoderConfig) and config.masked_lm == masked_lm and not (masked_lm and config.pooler)


def _family(masked_lm: bool) -> Family:
    return Family(
        functools.partial(_config, masked_lm),
        functools.partial(tensors, 'bert.' if masked_lm else ''),
        'bert.',
        ignored,
        _settings,
        functools.partial(_fits, masked_lm),
    )


FAMILIES = {'BertModel': _family(False), 'BertForMaskedLM': _family(True)}
