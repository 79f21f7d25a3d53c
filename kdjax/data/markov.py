"""A language whose next-token distribution is known: a Markov chain over the last tokens."""

from __future__ import annotations

import dataclasses
import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kdjax.data.dataset import SPLITS, ArraySource, Dataset, Origin
from kdjax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Markov(Dataset):
    """Rows of tokens drawn from `log_probs` `[vocabulary, ..., vocabulary]`: of the next token, after the `order` last.

    The first `order` tokens of a row are uniform and not to be predicted. Columns are those of a text split, see
    `kdjax.data.packing`.
    """

    log_probs: np.ndarray
    length: int

    @property
    def vocabulary(self) -> int:
        return self.log_probs.shape[-1]

    @property
    def order(self) -> int:
        return self.log_probs.ndim - 1

    def truth(self, tokens: Int[Array, 'batch length']) -> Float[Array, 'batch length vocabulary']:
        """Log-probabilities of the token after each; after the first `order - 1` tokens all alike."""
        table = jnp.asarray(self.log_probs)
        context = tuple(jnp.roll(tokens, back, axis=1) for back in range(self.order - 1, -1, -1))
        known = jnp.arange(tokens.shape[1]) >= self.order - 1
        return jnp.where(known[None, :, None], table[context], -jnp.log(float(self.vocabulary)))


@functools.cache
def markov(
    *, vocabulary: int = 24, order: int = 2, sharpness: float = 2.5, length: int = 32, rows: int = 1024,
    evaluation_rows: int = 256, seed: int = 0,
) -> Markov:  # fmt: skip
    """Draw a language, and text in it.

    sharpness: of each distribution, softmax(sharpness * normal): 0 is uniform; at 2.5 the likeliest of 24 tokens has
        about 0.4. Raises `UserError` on sizes below 1, and rows that are not longer than the order.
    """
    if min(vocabulary, order, rows, evaluation_rows) < 1 or length <= order:
        raise UserError(
            f'a Markov language of vocabulary={vocabulary}, order={order}, rows={rows}, length={length}: sizes are '
            'positive, and rows longer than the order'
        )
    draw = np.random.default_rng(seed)
    logits = sharpness * draw.normal(size=(vocabulary,) * (order + 1)).astype(np.float32)
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    counts = dict(zip(SPLITS, (rows, evaluation_rows, evaluation_rows), strict=True))
    splits = {split: _rows(log_probs, count, length + 1, draw) for split, count in counts.items()}
    digest = hashlib.sha256(log_probs.tobytes())
    for source in splits.values():
        digest.update(source['tokens'].tobytes())
    origin = Origin('drawn at random', 'none', f'{sum(counts.values())} rows of {length}')
    name = f'markov-{vocabulary}-{order}'
    return Markov(
        name=name, splits=splits, identity=digest.hexdigest(), origin=origin, log_probs=log_probs, length=length
    )


def _rows(log_probs: np.ndarray, rows: int, length: int, draw: np.random.Generator) -> ArraySource:
    order, vocabulary = log_probs.ndim - 1, log_probs.shape[-1]
    tokens = np.zeros((rows, length), np.int32)
    tokens[:, :order] = draw.integers(0, vocabulary, (rows, order))
    for place in range(order, length):
        context = tuple(tokens[:, place - back] for back in range(order, 0, -1))
        gumbel = draw.gumbel(size=(rows, vocabulary))
        tokens[:, place] = np.argmax(log_probs[context] + gumbel, axis=-1)
    counted = np.broadcast_to(np.arange(length) >= order, tokens.shape).copy()
    return ArraySource({'tokens': tokens, 'segment': np.ones_like(tokens), 'counted': counted})
