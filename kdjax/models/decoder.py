"""Decoders: Llama, Mistral, Qwen2, Qwen3, SmolLM2 and GPT-2, as one network."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import einops
import jax
import jax.numpy as jnp
from flax import nnx

from kdjax.errors import UserError
from kdjax.models import layers
from kdjax.models.attention import attend
from kdjax.models.cache import Cache, written
from kdjax.models.decoder_config import DecoderConfig as DecoderConfig
from kdjax.models.decoder_config import gpt2_config as gpt2_config
from kdjax.models.layer_norms import layer_norm
from kdjax.models.model import Model, Outputs, Rules
from kdjax.models.rope import frequencies, rotate, rotation
from kdjax.models.seam import from_nnx
from kdjax.models.sequences import positions_in, same_document
from kdjax.models.tables import Table

RULES: Rules = (
    (r'attention/[qkv]/kernel', (None, 'tensor')),
    (r'attention/[qkv]/bias', ('tensor',)),
    (r'attention/out/kernel', ('tensor', None)),
    (r'mlp/(gate|up)/kernel', (None, 'tensor')),
    (r'mlp/(gate|up)/bias', ('tensor',)),
    (r'mlp/down/kernel', ('tensor', None)),
    (r'(embedding|head)/table', ('tensor', None)),
)
"""Heads, hidden units and the vocabulary are split (arXiv 1909.08053, sec. 3)."""

FEW = 32
"""Tokens at once, as in generation, up to which the head is the left factor of its product."""

normal = jax.nn.initializers.normal
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'swiglu': jax.nn.silu,
    'gelu': functools.partial(jax.nn.gelu, approximate=True),
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecoderInputs:
    """What a decoder reads.

    tokens: `[batch, T]` int32. segment: `[batch, T]`, the document of each token, 0 for padding; tokens see their own
        document only. position: `[batch, T]`, from 0 in each document; counted unless given.
    cache: the tokens before these. Then a row is one document, and `segment` only says which tokens are padding.
    """

    tokens: Any
    segment: Any = None
    position: Any = None
    cache: Cache | None = None


class Attention(nnx.Module):
    """Causal self-attention; returns its output, and the queries, keys and values as they enter it."""

    def __init__(self, config: DecoderConfig, *, dtype: Any, rngs: nnx.Rngs):
        self.config, wide = config, config.head_width
        bias, out = config.qkv_bias, normal(0.02 / (2 * config.depth) ** 0.5)
        linear = functools.partial(layers.linear, dtype=dtype, rngs=rngs)
        self.q = linear(config.width, config.heads * wide, bias=bias, init=normal(0.02))
        self.k = linear(config.width, config.kv_heads * wide, bias=bias, init=normal(0.02))
        self.v = linear(config.width, config.kv_heads * wide, bias=bias, init=normal(0.02))
        self.out = linear(config.heads * wide, config.width, bias=config.out_bias, init=out)
        if config.qk_norm:
            self.q_norm = layer_norm('rms', wide, config.epsilon)
            self.k_norm = layer_norm('rms', wide, config.epsilon)

    def __call__(self, x: jax.Array, turned: Any, seen: Any, past: Any) -> tuple[jax.Array, tuple, Any]:
        q, k, v = (einops.rearrange(f(x), 'b t (n d) -> b t n d', d=self.config.head_width) for f in self._parts())
        if self.config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if turned is not None:
            q, k = rotate(q, turned), rotate(k, turned)
        held = None
        if past is None:
            mixed = attend(q, k, v, seen=seen, causal=True, cap=self.config.attention_cap)
        else:
            keys, values, end = past
            held = written(keys, k, end), written(values, v, end)
            keys, values = (jnp.swapaxes(each, 1, 2).astype(q.dtype) for each in held)
            mixed = attend(q, keys, values, seen=seen, cap=self.config.attention_cap)
        return self.out(einops.rearrange(mixed, 'b t n d -> b t (n d)')), (q, k, v), held

    def _parts(self) -> tuple[nnx.Linear, nnx.Linear, nnx.Linear]:
        return self.q, self.k, self.v


class MLP(nnx.Module):
    """down(silu(gate(x)) * up(x)) (arXiv 2002.05202, eq. 6), or down(gelu(up(x)))."""

    def __init__(self, config: DecoderConfig, *, dtype: Any, rngs: nnx.Rngs):
        self.activation = ACTIVATIONS[config.mlp]
        linear = functools.partial(layers.linear, bias=config.mlp_bias, dtype=dtype, rngs=rngs)
        if config.mlp == 'swiglu':
            self.gate = linear(config.width, config.hidden, init=normal(0.02))
        self.up = linear(config.width, config.hidden, init=normal(0.02))
        self.down = linear(config.hidden, config.width, init=normal(0.02 / (2 * config.depth) ** 0.5))

    def __call__(self, x: jax.Array) -> jax.Array:
        if hasattr(self, 'gate'):
            return self.down(self.activation(self.gate(x)) * self.up(x))
        return self.down(self.activation(self.up(x)))


class Block(nnx.Module):
    """Pre-norm: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: DecoderConfig, *, dtype: Any, rngs: nnx.Rngs):
        self.norm1 = layer_norm(config.norm, config.width, config.epsilon)
        self.attention = Attention(config, dtype=dtype, rngs=rngs)
        self.norm2 = layer_norm(config.norm, config.width, config.epsilon)
        self.mlp = MLP(config, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, turned: Any, seen: Any, past: Any) -> tuple[jax.Array, tuple, Any]:
        mixed, relations, kept = self.attention(self.norm1(x), turned, seen, past)
        x = x + mixed
        return x + self.mlp(self.norm2(x)), relations, kept


class Decoder(nnx.Module):
    """Embedding, blocks, norm, head."""

    def __init__(self, config: DecoderConfig, *, dtype: Any, remat: bool, rngs: nnx.Rngs):
        self.config, self.dtype, self.remat = config, dtype, remat
        self.embedding = Table(config.vocabulary, config.width, rngs=rngs)
        if config.positions == 'learned':
            self.position = Table(config.context, config.width, rngs=rngs)
        self.blocks = nnx.List([Block(config, dtype=dtype, rngs=rngs) for _ in range(config.depth)])
        self.norm = layer_norm(config.norm, config.width, config.epsilon)
        if not config.tied:
            self.head = Table(config.vocabulary, config.width, rngs=rngs)

    def __call__(self, inputs: Any, *, train: bool, key: jax.Array) -> Outputs:
        del train, key
        given = _read(inputs)
        position, seen, cache = self._placed(given)
        x, turned = self._embedded(given.tokens, position)
        taps: dict[str, Any] = {'embedded': x}
        kept, block = [], layers.block(Block.__call__, remat=self.remat)
        for i, each in enumerate(self.blocks, start=1):
            past = None if cache is None else (cache.keys[i - 1], cache.values[i - 1], cache.length)
            x, relations, held = block(each, x, turned, seen, past)
            taps |= {f'block{i}': x} | dict(zip((f'queries{i}', f'keys{i}', f'values{i}'), relations, strict=True))
            kept.append(held)
        for stage in range(1, 5):
            taps[f'stage{stage}'] = taps[f'block{-(-stage * len(self.blocks) // 4)}']
        if cache is not None:
            keys, values = zip(*kept, strict=True)
            taps['cache'] = dataclasses.replace(cache, keys=keys, values=values)
        return self._said(self.norm(x), taps)

    def _placed(self, given: DecoderInputs) -> tuple[jax.Array, jax.Array | None, Cache | None]:
        """The position of each token, which keys it sees beyond causality, and the cache with room for it."""
        tokens, segment, position = given.tokens, given.segment, given.position
        if self.config.positions == 'learned' and tokens.shape[1] > self.config.context:
            raise UserError(
                f'{tokens.shape[1]} tokens in a row, but the decoder has {self.config.context} positions: cut the rows'
            )
        if given.cache is not None:
            valid = jnp.ones(tokens.shape, bool) if segment is None else segment != 0
            cache = given.cache.opened(valid)
            return given.cache.positions(valid) if position is None else position, cache.seen(tokens.shape[1]), cache
        if segment is None:
            counted = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
            return counted if position is None else position, None, None
        return positions_in(segment) if position is None else position, same_document(segment), None

    def _embedded(self, tokens: jax.Array, position: jax.Array) -> tuple[jax.Array, Any]:
        x = self.embedding.as_type(self.dtype)[tokens]
        if self.config.positions == 'learned':
            return x + self.position.as_type(self.dtype)[position], None
        turning = frequencies(self.config.head_width, self.config.rope_theta, self.config.rope_scaling)
        return x, rotation(position, turning)

    def _said(self, hidden: jax.Array, taps: dict[str, Any]) -> Outputs:
        head = (self.embedding if self.config.tied else self.head).as_type(self.dtype)
        logits = _words(hidden, head)
        if self.config.logit_cap is not None:
            logits = self.config.logit_cap * jnp.tanh(logits / self.config.logit_cap)
        return Outputs(logits, taps | {'hidden': hidden, 'head': head})


def _words(hidden: jax.Array, head: jax.Array) -> jax.Array:
    """hidden head^T in float32. Few rows are multiplied from the other side: on a CPU that is 2.7 times as fast."""
    if math.prod(hidden.shape[:-1]) > FEW:
        return jnp.einsum('b t d, v d -> b t v', hidden, head, preferred_element_type=jnp.float32)
    return jnp.moveaxis(jnp.einsum('v d, b t d -> v b t', head, hidden, preferred_element_type=jnp.float32), 0, -1)


def _read(inputs: Any) -> DecoderInputs:
    if isinstance(inputs, DecoderInputs):
        return inputs
    return DecoderInputs(*inputs) if isinstance(inputs, (tuple, list)) else DecoderInputs(inputs)


def decoder(config: DecoderConfig, *, dtype: Any = jnp.float32, remat: bool = False) -> Model:
    """A decoder-only language model.

    Reads tokens `[batch, T]`, a tuple (tokens, segment, position), or `DecoderInputs`.
    remat: blocks are computed again for the backward pass instead of being kept.
    prediction: logits of the next token, float32 `[batch, T, vocabulary]`, accumulated in float32.
    taps: `embedded`; `block1` .. `blockN`, the residual stream after each block; `stage1` .. `stage4`, those at the
        end of each quarter of the depth, rounded up; `hidden`, after the final norm, all `[batch, T, width]`; `head`,
        `[vocabulary, width]`, which `hidden` is multiplied by; `queries1` .. `[batch, T, heads, head_width]`,
        `keys1` .. and `values1` .. `[batch, T, kv_heads, head_width]`, as they enter attention; `cache`, if one is
        given. With `logit_cap` the logits are the capped product of `hidden` and `head`.

    Raises UserError where a row has more tokens than there are learned positions.
    """
    name = f'decoder({config})'
    if jnp.dtype(dtype) != jnp.float32:
        name = f"decoder({config}, dtype='{jnp.dtype(dtype).name}')"

    def build(rngs: nnx.Rngs) -> Decoder:
        return Decoder(config, dtype=dtype, remat=remat, rngs=rngs)

    under = functools.partial(decoder, config, dtype=dtype, remat=remat)
    return from_nnx(build, name=name, rules=RULES, under=under)


def decoder_cache(config: DecoderConfig, batch: int, size: int, dtype: Any = jnp.float32) -> Cache:
    """An empty cache of `size` slots for each row."""
    shape = (batch, config.kv_heads, size, config.head_width)
    return Cache(
        tuple(jnp.zeros(shape, dtype) for _ in range(config.depth)),
        tuple(jnp.zeros(shape, dtype) for _ in range(config.depth)),
        jnp.zeros((batch, size), bool),
        jnp.zeros((), jnp.int32),
    )
