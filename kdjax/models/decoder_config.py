"""What a decoder is built from."""

from __future__ import annotations

import dataclasses
from typing import cast

from kdjax.errors import UserError, unknown
from kdjax.models.rope import LlamaScaling


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """All that a decoder is built from. The defaults are Llama's form.

    width: of the residual stream. hidden: of the MLP. heads, kv_heads: query heads, and key and value heads, each of
        which serves heads / kv_heads query heads; as many unless given. head_width: width / heads unless given.
    context: the most positions; only learned ones end there. positions: 'rope' or 'learned'.
    norm: 'rms' or 'layer'. mlp: 'swiglu', silu(gate(x)) * up(x), or 'gelu', of tanh form.
    tied: the head is the embedding. qk_norm: queries and keys of each head are normalised (Qwen3).
    attention_cap, logit_cap: c tanh(score / c) for scores and for logits (Gemma 2).
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    hidden: int
    kv_heads: int = cast(int, None)
    head_width: int = cast(int, None)
    context: int = 2048
    positions: str = 'rope'
    rope_theta: float = 10000.0
    rope_scaling: LlamaScaling | None = None
    norm: str = 'rms'
    epsilon: float = 1e-5
    mlp: str = 'swiglu'
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    tied: bool = True
    attention_cap: float | None = None
    logit_cap: float | None = None

    def __post_init__(self):
        object.__setattr__(self, 'kv_heads', self.kv_heads or self.heads)
        object.__setattr__(self, 'head_width', self.head_width or self.width // max(self.heads, 1))
        self._check()

    def _check(self) -> None:
        sizes = ('vocabulary', 'width', 'depth', 'heads', 'hidden', 'kv_heads', 'head_width', 'context')
        for size in sizes:
            if getattr(self, size) < 1:
                raise UserError(f'decoder: {size} is {getattr(self, size)}: it must be positive')
        if self.heads % self.kv_heads:
            raise UserError(f'decoder: kv_heads={self.kv_heads} does not divide heads={self.heads}')
        if self.positions == 'rope' and self.head_width % 2:
            raise UserError(f'decoder: RoPE turns pairs of features: head_width={self.head_width} must be even')
        kinds = {'positions': ('rope', 'learned'), 'norm': ('rms', 'layer'), 'mlp': ('swiglu', 'gelu')}
        for field, known in kinds.items():
            if getattr(self, field) not in known:
                raise unknown(f'{field} of a decoder', getattr(self, field), known)

    def __str__(self) -> str:
        said = (f'{f.name}={getattr(self, f.name)!r}' for f in dataclasses.fields(self) if self._told(f))
        return f'DecoderConfig({", ".join(said)})'

    def _told(self, field: dataclasses.Field) -> bool:
        own = {'kv_heads': self.heads, 'head_width': self.width // self.heads}
        return getattr(self, field.name) != own.get(field.name, field.default)


def gpt2_config(vocabulary: int, width: int, depth: int, heads: int, context: int = 1024) -> DecoderConfig:
    """GPT-2's form: learned positions, LayerNorm, GELU, biases, a hidden width of 4 width, a tied head."""
    return DecoderConfig(
        vocabulary, width, depth, heads, 4 * width, context=context,
        positions='learned', norm='layer', mlp='gelu', qkv_bias=True, out_bias=True, mlp_bias=True,
    )  # fmt: skip
