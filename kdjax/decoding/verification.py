"""Draft tokens, accepted or replaced so that what is emitted has exactly the target's law."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from kdjax.decoding.sampling import draw


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Verdict:
    """accepted: how many of the drafts, from the first on, stand. token: what follows them, drawn by the target."""

    accepted: Int[Array, 'rows']
    token: Int[Array, 'rows']


def verify(
    keys: Key[Array, 'rows'],
    target: Float[Array, 'rows drafts_and_one vocab'],
    draft: Float[Array, 'rows drafts vocab'],
    tokens: Int[Array, 'rows drafts'],
) -> Verdict:
    """Speculative sampling of one draft sequence a row: the emitted tokens have the target's law.

    target: probabilities p_0 .. p_n at the n drafts' places and at the one after. draft: q_0 .. q_(n-1), which
    `tokens` were drawn from. Token x_i stands with probability min(1, p_i(x_i) / q_i(x_i)) if all before it do; at
    the first that does not, norm(max(p_i - q_i, 0)) is drawn from; after n that do, p_n.
    Source: Leviathan et al., arXiv 2211.17192, algorithm 1; Chen et al., arXiv 2302.01318, algorithm 2.
    """
    test, fresh = _two(keys)
    uniform = jax.vmap(lambda key: jax.random.uniform(key, tokens.shape[1:]))(test)
    stands = uniform * _at(draft, tokens) < _at(target[:, :-1], tokens)
    accepted = jnp.sum(jnp.cumprod(stands.astype(jnp.int32), axis=1), axis=1)
    nothing = jnp.zeros_like(target[:, :1])
    p, q = (_at_place(x, accepted) for x in (target, jnp.concatenate([draft, nothing], axis=1)))
    return Verdict(accepted, draw(fresh, residual(p, q)))


def residual(p: Float[Array, '*batch vocab'], q: Float[Array, '*batch vocab']) -> Float[Array, '*batch vocab']:
    """norm(max(p - q, 0)), and p where that is 0 everywhere (rounding: p = q is never rejected)."""
    rest = jnp.maximum(p - q, 0.0)
    total = jnp.sum(rest, axis=-1, keepdims=True)
    return jnp.where(total > 0, rest / jnp.where(total > 0, total, 1.0), p)


def ends_text(tokens: Int[Array, '*rows'], stop: tuple[int, ...]) -> Bool[Array, '*rows']:
    """Which tokens are stop tokens."""
    return functools.reduce(jnp.logical_or, [tokens == one for one in stop], jnp.zeros_like(tokens, bool))


def _two(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]


def _at(probs: jax.Array, tokens: jax.Array) -> jax.Array:
    return jnp.take_along_axis(probs, tokens[..., None], axis=-1)[..., 0]


def _at_place(probs: jax.Array, place: jax.Array) -> jax.Array:
    return jnp.take_along_axis(probs, place[:, None, None], axis=1)[:, 0]
