"""What speculative decoding gains from a draft model: acceptance along sampled text, and the length of blocks."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from kdjax.decoding.sampling import Sampling, log_distribution


def acceptance_rate(
    target_logits: Float[Array, '*batch vocab'], draft_logits: Float[Array, '*batch vocab'], sampling: Sampling
) -> Float[Array, '*batch']:
    """sum_v min(p_v, q_v): how often a token drafted from q stands, p and q as `sampling` makes them. In [0, 1].

    Along text that the target wrote, where speculative decoding is; the draft's own text is another distribution.
    Greedy: whether the two agree on the likeliest token.
    Source: Leviathan et al., arXiv 2211.17192, section 3.2.
    """
    p, q = (jnp.exp(log_distribution(logits, sampling)) for logits in (target_logits, draft_logits))
    return jnp.sum(jnp.minimum(p, q), axis=-1)


def expected_block_length(alpha: Float[Array, '*batch'], drafts: int) -> Float[Array, '*batch']:
    """(1 - alpha^(n + 1)) / (1 - alpha): tokens for each pass of the target, if drafts stand independently.

    In [1, n + 1]. Source: Leviathan et al., arXiv 2211.17192, equation 1.
    """
    return sum(alpha**n for n in range(1, drafts + 1)) + jnp.ones_like(alpha)
