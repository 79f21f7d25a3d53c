"""Encoders: BERT and MiniLM, with or without the head of masked language modelling."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import einops
import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import UserError
from kdjax.models import layers
from kdjax.models.attention import attend
from kdjax.models.layer_norms import LayerNorm
from kdjax.models.model import Model, Outputs, Rules
from kdjax.models.seam import from_nnx
from kdjax.models.tables import Table

RULES: Rules = (
    (r'attention/[qkv]/kernel', (None, 'tensor')),
    (r'attention/[qkv]/bias', ('tensor',)),
    (r'attention/out/kernel', ('tensor', None)),
    (r'mlp/up/kernel', (None, 'tensor')),
    (r'mlp/up/bias', ('tensor',)),
    (r'mlp/down/kernel', ('tensor', None)),
    (r'embedding/table', ('tensor', None)),
)
"""Heads, hidden units and the vocabulary are split (arXiv 1909.08053, sec. 3)."""

_normal = jax.nn.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """All that an encoder is built from; the defaults are BERT's.

    width: of the residual stream. hidden: of the MLP. context: the most positions. types: kinds of segments.
    masked_lm: has the head that predicts tokens. pooler: has BERT's tanh(linear(first token)).
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    hidden: int
    context: int = 512
    types: int = 2
    epsilon: float = 1e-12
    masked_lm: bool = False
    pooler: bool = False

    def __post_init__(self):
        for size in ('vocabulary', 'width', 'depth', 'heads', 'hidden', 'context', 'types'):
            if getattr(self, size) < 1:
                raise UserError(f'encoder: {size} is {getattr(self, size)}: it must be positive')
        if self.width % self.heads:
            raise UserError(f'encoder: heads={self.heads} does not divide width={self.width}')


class Attention(nnx.Module):
    """Self-attention; returns its output, and the queries, keys and values."""

    def __init__(self, config: EncoderConfig, linear: Any):
        self.heads = config.heads
        self.q, self.k, self.v, self.out = (linear(config.width, config.width) for _ in range(4))

    def __call__(self, x: jax.Array, seen: jax.Array | None) -> tuple[jax.Array, tuple]:
        q, k, v = (einops.rearrange(f(x), 'b t (n d) -> b t n d', n=self.heads) for f in (self.q, self.k, self.v))
        return self.out(einops.rearrange(attend(q, k, v, seen=seen), 'b t n d -> b t (n d)')), (q, k, v)


class MLP(nnx.Module):
    """down(gelu(up(x)))."""

    def __init__(self, config: EncoderConfig, linear: Any):
        self.up, self.down = linear(config.width, config.hidden), linear(config.hidden, config.width)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.gelu(self.up(x), approximate=False))


class Block(nnx.Module):
    """Post-norm: norm(x + attention(x)), then norm(x + mlp(x)) (arXiv 1706.03762, sec. 3.1)."""

    def __init__(self, config: EncoderConfig, linear: Any):
        self.attention, self.norm1 = Attention(config, linear), LayerNorm(config.width, config.epsilon)
        self.mlp, self.norm2 = MLP(config, linear), LayerNorm(config.width, config.epsilon)

    def __call__(self, x: jax.Array, seen: jax.Array | None) -> tuple[jax.Array, tuple]:
        mixed, relations = self.attention(x, seen)
        x = self.norm1(x + mixed)
        return self.norm2(x + self.mlp(x)), relations


class MaskedLM(nnx.Module):
    """norm(gelu(linear(x))) times the embedding, plus a bias."""

    def __init__(self, config: EncoderConfig, linear: Any):
        self.dense, self.norm = linear(config.width, config.width), LayerNorm(config.width, config.epsilon)
        self.bias = nnx.Param(jnp.zeros(config.vocabulary, jnp.float32))

    def __call__(self, x: jax.Array, table: jax.Array) -> jax.Array:
        x = self.norm(jax.nn.gelu(self.dense(x), approximate=False))
        logits = jnp.einsum('b t d, v d -> b t v', x, table, preferred_element_type=jnp.float32)
        return logits + self.bias[...].astype(jnp.float32).reshape(1, 1, -1)


class Encoder(nnx.Module):
    """Embedding, norm, blocks and what comes after them."""

    def __init__(self, config: EncoderConfig, *, dtype: Any, remat: bool, rngs: nnx.Rngs):
        self.config, self.dtype, self.remat = config, dtype, remat
        linear = functools.partial(layers.linear, init=_normal, dtype=dtype, rngs=rngs)
        self.embedding = Table(config.vocabulary, config.width, rngs=rngs)
        self.position = Table(config.context, config.width, rngs=rngs)
        self.type = Table(config.types, config.width, rngs=rngs)
        self.norm = LayerNorm(config.width, config.epsilon)
        self.blocks = nnx.List([Block(config, linear) for _ in range(config.depth)])
        if config.pooler:
            self.pooler = linear(config.width, config.width)
        if config.masked_lm:
            self.masked_lm = MaskedLM(config, linear)

    def __call__(self, inputs: Any, *, train: bool, key: jax.Array) -> Outputs:
        del train, key
        tokens, mask, types = _read(inputs)
        seen = None if mask is None else mask[:, None, :]
        x = self._embedded(tokens, types)
        taps, block = {'embedded': x}, layers.block(Block.__call__, remat=self.remat)
        for i, each in enumerate(self.blocks, start=1):
            x, relations = block(each, x, seen)
            taps |= {f'block{i}': x} | dict(zip((f'queries{i}', f'keys{i}', f'values{i}'), relations, strict=True))
        for stage in range(1, 5):
            taps[f'stage{stage}'] = taps[f'block{-(-stage * len(self.blocks) // 4)}']
        taps |= {'hidden': x, 'pooled': _mean(x, mask), 'cls': x[:, 0].astype(jnp.float32)}
        if self.config.pooler:
            taps['pooler'] = jnp.tanh(self.pooler(x[:, 0])).astype(jnp.float32)
        said = self.masked_lm(x, self.embedding.as_type(self.dtype)) if self.config.masked_lm else x
        return Outputs(said.astype(jnp.float32), taps)

    def _embedded(self, tokens: jax.Array, types: jax.Array | None) -> jax.Array:
        length = tokens.shape[1]
        if length > self.config.context:
            raise UserError(
                f'{length} tokens in a row, but the encoder has {self.config.context} positions: cut the rows'
            )
        types = jnp.zeros((1, 1), jnp.int32) if types is None else types
        position = self.position.as_type(self.dtype)[None, :length]
        return self.norm(self.embedding.as_type(self.dtype)[tokens] + position + self.type.as_type(self.dtype)[types])


def _read(inputs: Any) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """Tokens, mask and types."""
    given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    tokens, mask, types = given + (None,) * (3 - len(given))
    return tokens, None if mask is None else mask.astype(bool), types


def _mean(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """The mean over the tokens that count; 0 for a row that has none."""
    wide = x.astype(jnp.float32)
    if mask is None:
        return jnp.mean(wide, axis=1)
    counted = mask[:, :, None].astype(jnp.float32)
    return jnp.sum(wide * counted, axis=1) / jnp.maximum(jnp.sum(counted, axis=1), 1.0)


def encoder(config: EncoderConfig, *, dtype: Any = jnp.float32, remat: bool = False) -> Model:
    """A bidirectional transformer (arXiv 1810.04805).

    Reads tokens `[batch, T]`, or a tuple (tokens, mask) or (tokens, mask, type): which tokens are no padding, and the
    kind of segment of each token, 0 unless given.
    remat: blocks are computed again for the backward pass instead of being kept.
    prediction: with `masked_lm` logits float32 `[batch, T, vocabulary]`, else the last hidden states in float32.
    taps: `embedded`; `block1` .. `blockN`, after each block; `stage1` .. `stage4`, those at the end of each quarter of
        the depth, rounded up; `hidden`, the last one, all `[batch, T, width]`; `queries1` .., `keys1` .., `values1` ..
        `[batch, T, heads, width / heads]`; `pooled`, the mean of the tokens that count, `cls`, the first token, and
        with `pooler` BERT's `pooler`, all float32 `[batch, width]`.

    Raises UserError where a row has more tokens than there are positions.
    """
    name = repr(config) if jnp.dtype(dtype) == jnp.float32 else f"{config}, dtype='{jnp.dtype(dtype).name}'"

    def build(rngs: nnx.Rngs) -> Encoder:
        return Encoder(config, dtype=dtype, remat=remat, rngs=rngs)

    under = functools.partial(encoder, config, dtype=dtype, remat=remat)
    return from_nnx(build, name=f'encoder({name})', rules=RULES, under=under)
