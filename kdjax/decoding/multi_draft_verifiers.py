"""Verifiers of several draft tokens: what each accepts, exactly, and the tokens that it emits.

All emit the law p. How far each stays below the optimum of its drafts (`multi_draft`) is the price of its simplicity.
Tokens are verified one after the other; the first that is accepted is emitted.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from kdjax.decoding.multi_draft import Probs, distributions, enough
from kdjax.decoding.sampling import draw
from kdjax.decoding.verification import residual

Emitted = tuple[Int[Array, ''], Int[Array, '']]
"""The token, and which draft was accepted (the number of drafts, where none was)."""


def rrs_acceptance(p: Probs, q: Probs, drafts: int) -> float:
    """Recursive rejection sampling of independent drafts: each against what its predecessors left of p.

    p_1 = p, p_(i+1) = norm(max(p_i - q, 0)); draft i is accepted with min(1, p_i / q). In [0, 1].
    Source: SpecInfer, arXiv 2305.09781, multi-step speculative sampling.
    """
    p, q = distributions(p, q, drafts)
    missed = 1.0
    for _ in range(drafts):
        missed *= 1 - np.sum(np.minimum(p, q))
        p = _left_over(p, q)
    return float(1 - missed)


def rrs_without_replacement_acceptance(p: Probs, q: Probs, drafts: int) -> float:
    """Recursive rejection sampling of different drafts: a rejected token also leaves q, which is renormalised.

    The residual of p uses q as it was when the rejected token was drawn. In [0, 1]; exact, in O(V^(n - 1) log V).
    Raises ValueError where q has fewer tokens than drafts.
    Source: Jeon et al., arXiv 2402.14160; Yang et al., arXiv 2401.06706.
    """
    p, q = distributions(p, q, drafts)
    enough(q, drafts)
    return float(_without(p, q, drafts))


def k_seq_acceptance(p: Probs, q: Probs, drafts: int) -> float:
    """K-SEQ: each independent draft is accepted with min(1, p / (rho q)), at the least rho that is valid. In [0, 1].

    Source: SpecTr, arXiv 2310.15141, k-sequential selection.
    """
    p, q = distributions(p, q, drafts)
    beta = _k_seq_beta(p, q, k_seq_rho(p, q, drafts))
    return float(1 - (1 - beta) ** drafts)


def k_seq_rho(p: Probs, q: Probs, drafts: int) -> float:
    """The rho in [1, n] with 1 - (1 - beta)^n = rho beta, beta(rho) = sum min(q, p / rho), by bisection.

    The left side falls below the right one as rho grows: any larger rho is valid, and accepts less.
    """
    low, high = 1.0, float(drafts)
    for _ in range(60):
        middle = (low + high) / 2
        beta = _k_seq_beta(p, q, middle)
        low, high = (middle, high) if 1 - (1 - beta) ** drafts > middle * beta else (low, middle)
    return high


def rrs(
    key: Key[Array, ''], p: Float[Array, 'vocab'], q: Float[Array, 'vocab'], tokens: Int[Array, 'drafts']
) -> Emitted:
    """Recursive rejection sampling of `tokens`, drawn independently from q."""
    return _sequentially(key, p, q, tokens, leaves=False)


def rrs_without_replacement(
    key: Key[Array, ''], p: Float[Array, 'vocab'], q: Float[Array, 'vocab'], tokens: Int[Array, 'drafts']
) -> Emitted:
    """Recursive rejection sampling of `tokens`, drawn from q without replacement (`drawn_without_replacement`)."""
    return _sequentially(key, p, q, tokens, leaves=True)


def k_seq(
    key: Key[Array, ''],
    p: Float[Array, 'vocab'],
    q: Float[Array, 'vocab'],
    tokens: Int[Array, 'drafts'],
    rho: Float[Array, ''],
) -> Emitted:
    """K-SEQ of `tokens`, drawn independently from q, at `k_seq_rho`; where all fall, max(p - rho q, 0) is drawn."""
    test, fresh = jax.random.split(key)
    uniform = jax.random.uniform(test, tokens.shape)
    stands = uniform * rho * q[tokens] < p[tokens]
    first = jnp.argmax(jnp.append(stands, True)).astype(jnp.int32)
    return jnp.append(tokens, draw(fresh, residual(p, rho * q)))[first], first


def drawn_without_replacement(key: Key[Array, ''], q: Float[Array, 'vocab'], drafts: int) -> Int[Array, 'drafts']:
    """Different tokens, in the order drawn: the greatest of log q + Gumbel noise (arXiv 1903.06059)."""
    return jax.lax.top_k(jnp.log(q) + jax.random.gumbel(key, q.shape), drafts)[1]


def _sequentially(key: jax.Array, p: jax.Array, q: jax.Array, tokens: jax.Array, *, leaves: bool) -> Emitted:
    test, fresh = jax.random.split(key)
    uniform = jax.random.uniform(test, tokens.shape)

    def one(carry: tuple, drafted: tuple) -> tuple[tuple, jax.Array]:
        p, q = carry
        token, u = drafted
        stands = u * q[token] < p[token]
        smaller = q.at[token].set(0.0) if leaves else q
        return (residual(p, q), smaller / jnp.maximum(jnp.sum(smaller), 1e-30)), stands

    (p, _), stands = jax.lax.scan(one, (p, q), (tokens, uniform))
    first = jnp.argmax(jnp.append(stands, True)).astype(jnp.int32)
    return jnp.append(tokens, draw(fresh, p))[first], first


def _left_over(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    rest = np.maximum(p - q, 0)
    return rest / rest.sum() if rest.sum() > 0 else p


def _without(p: np.ndarray, left: np.ndarray, drafts: int) -> float:
    """`left`: q, 0 where a token has left. What has been rejected is 0 in p too, so that q's scale alone matters."""
    mass = left.sum()
    rejected = np.maximum(left / mass - p, 0)
    if drafts == 1:
        return 1 - rejected.sum()
    rest, drawn = _left_over(p, left / mass), np.flatnonzero(rejected)
    if drafts == 2:
        later = _overlaps(rest, left, mass - left[drawn])
    else:
        later = np.array([_without(rest, np.where(np.arange(len(p)) == x, 0, left), drafts - 1) for x in drawn])
    return 1 - rejected.sum() + float(rejected[drawn] @ later)


def _overlaps(p: np.ndarray, left: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """sum min(p, left / mass) for each mass: token by token it is p where p mass <= left, so sort by left / p."""
    said = p > 0
    p, left = p[said], left[said]
    order = np.argsort(left / p)
    p, left = p[order], left[order]
    below = np.append(0.0, np.cumsum(left))
    above = np.append(np.cumsum(p[::-1])[::-1], 0.0)
    place = np.searchsorted(left / p, masses)
    return below[place] / masses + above[place]


def _k_seq_beta(p: np.ndarray, q: np.ndarray, rho: float) -> float:
    return float(np.sum(np.minimum(q, p / rho)))
