"""Next-token distributions, and draws from them."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from kdjax.errors import UserError

BLOCK = 128
"""Entries of the vocabulary that a draw sums at once: the width of a TPU's vector."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: logits / temperature, then the `top_k` likeliest, then the nucleus.

    temperature: above 0; 0 takes the likeliest token (and of several the first).
    top_k: how many tokens stay; those as likely as the last of them stay too.
    top_p: the likeliest tokens stay until their probability reaches `top_p`, in (0, 1] (arXiv 1904.09751, sec. 3.1);
        probabilities are those after `top_k`, and tokens as likely as the last one stay too.

    Raises UserError on values out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self):
        if not 0 <= self.temperature < float('inf'):
            raise UserError(f'temperature is {self.temperature}: give 0 (greedy) or a positive number')
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f'top_k is {self.top_k}: keep at least 1 token, or leave it out')
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f'top_p is {self.top_p}: it has to lie in (0, 1]')

    @property
    def plain(self) -> bool:
        """Whether tokens are drawn from the model's own distribution."""
        return self == PLAIN


PLAIN = Sampling()
GREEDY = Sampling(temperature=0.0)


def log_distribution(logits: Float[Array, '*batch vocab'], sampling: Sampling) -> Float[Array, '*batch vocab']:
    """The log-probabilities that tokens are drawn with, float32; -inf where a token cannot be drawn."""
    logits = logits.astype(jnp.float32)
    if sampling.temperature == 0:
        return jnp.where(_ids(logits) == _likeliest(logits), 0.0, -jnp.inf)
    log_probs = jax.nn.log_softmax(logits / sampling.temperature)
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        log_probs = _kept(log_probs, jnp.ones_like(log_probs), float(sampling.top_k))
    if sampling.top_p is not None and sampling.top_p < 1:
        log_probs = _kept(log_probs, jnp.exp(log_probs), sampling.top_p)
    return log_probs


def draw(keys: Key[Array, '*batch'], probs: Float[Array, '*batch vocab']) -> Int[Array, '*batch']:
    """A token of each row, with probability proportional to `probs`; one of probability 0 is never drawn.

    The inverse of the distribution function in two levels, a block of the vocabulary and a token in it, each with a
    uniform number of its own: two numbers a row, where Gumbel noise takes one for each entry of the vocabulary.
    """
    uniform = jnp.reshape(keys, (-1,))
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(uniform)
    return _inverse(probs, uniform.reshape(*keys.shape, 2))


def row_keys(key: Key[Array, ''], rows: int) -> Key[Array, 'rows']:
    """A key for each row: what a row draws does not depend on which others stand beside it."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(rows))


def step_keys(keys: Key[Array, 'rows'], step: Int[Array, ''] | int) -> Key[Array, 'rows']:
    """The keys of the rows at a step."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, step)


def _inverse(probs: jax.Array, uniform: jax.Array) -> jax.Array:
    vocabulary = probs.shape[-1]
    blocks = -(-vocabulary // BLOCK)
    spare = [(0, 0)] * (probs.ndim - 1) + [(0, blocks * BLOCK - vocabulary)]
    table = jnp.pad(probs, spare).reshape(*probs.shape[:-1], blocks, BLOCK)
    block = _inverse_of(jnp.sum(table, axis=-1), uniform[..., 0])
    chosen = jnp.take_along_axis(table, block[..., None, None], axis=-2)[..., 0, :]
    return block * BLOCK + _inverse_of(chosen, uniform[..., 1])


def _inverse_of(weights: jax.Array, uniform: jax.Array) -> jax.Array:
    """The first entry at which the sum of the weights exceeds `uniform` (in [0, 1)) of all.

    Sums in parallel round differently from entry to entry: what weighs nothing is passed over, whatever its sum.
    """
    sums = jnp.where(weights > 0, jnp.cumsum(weights, axis=-1), 0.0)
    level = uniform[..., None] * jnp.max(sums, axis=-1, keepdims=True)
    return jnp.argmax(sums > level, axis=-1).astype(jnp.int32)


def _kept(log_probs: jax.Array, weights: jax.Array, enough: float) -> jax.Array:
    """The likeliest tokens whose weights reach `enough`, renormalised."""
    threshold = _threshold(jnp.exp(log_probs), weights, enough)
    return jax.nn.log_softmax(jnp.where(jnp.exp(log_probs) >= threshold, log_probs, -jnp.inf))


def _threshold(values: jax.Array, weights: jax.Array, enough: float) -> jax.Array:
    """The largest t at which the entries >= t weigh `enough`; 0 where there is none. Values are float32 in [0, 1].

    Positive floats are ordered as their bits are: t is found bit by bit, without sorting.
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)

    def refine(i: jax.Array, low: jax.Array) -> jax.Array:
        higher = low | (1 << (30 - i))
        weight = jnp.sum(jnp.where(bits >= higher, weights, 0.0), axis=-1, keepdims=True)
        return jnp.where(weight >= enough, higher, low)

    start = jnp.zeros((*values.shape[:-1], 1), jnp.int32)
    return jax.lax.bitcast_convert_type(jax.lax.fori_loop(0, 31, refine, start), jnp.float32)


def _likeliest(logits: jax.Array) -> jax.Array:
    """The first of the greatest: two plain reductions, many times as fast on a CPU as XLA's argmax."""
    greatest = logits == jnp.max(logits, axis=-1, keepdims=True)
    return jnp.min(jnp.where(greatest, _ids(logits), logits.shape[-1]), axis=-1, keepdims=True)


def _ids(logits: jax.Array) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
