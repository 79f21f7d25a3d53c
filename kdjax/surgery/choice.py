"""Which of several cut networks to keep: scores of performance against scale, the highest wins.

Scale is the share of hidden units that a candidate keeps; the uncut network has scale 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from kdjax.errors import UserError
from kdjax.models.model import Variables
from kdjax.surgery.prune import mask_prefix


def accuracies(
    logits: Float[Array, 'examples networks classes'], labels: Integer[Array, ' examples']
) -> Float[Array, ' networks']:
    """The accuracy of each network, in 0..1."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels[:, None], axis=0, dtype=jnp.float32)


def npsd(
    performance: Float[Array, ' networks'], scales: Float[Array, ' networks'], uncut: Float[Array, '']
) -> Float[Array, ' networks']:
    """A hypothesis of AMD's negative performance-scale derivative: -(P_uncut - P) / (1 - S).

    The slope of performance over scale between a candidate and the uncut network, with the sign turned: the
    highest has lost least for each unit of scale given up, and is positive where it beats the uncut network.
    The published formula (arXiv 2407.04208) could not be read in public: to which network the difference is
    taken, and the units of performance and scale, are our guesses. Close to scale 1 it divides two small
    numbers. Scales lie below 1.
    """
    return -(uncut - performance) / (1.0 - scales)


def tradeoff(
    performance: Float[Array, ' networks'], scales: Float[Array, ' networks'], *, weight: float = 0.2
) -> Float[Array, ' networks']:
    """P + weight * (1 - S): the rule in the code of MiniDisc (GeneZC/MiniDisc, run_minidisc_cls.py; 0.2)."""
    return performance + weight * (1.0 - scales)


def rank_correlation(
    first: Float[Array, ' networks'], second: Float[Array, ' networks']
) -> Float[Array, '']:
    """Spearman's: the Pearson correlation of ranks, ties at their mean rank.

    In -1..1; 0 where one of them is constant.
    """
    a, b = (_centred_ranks(x) for x in (first, second))
    scale = jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b))
    return jnp.where(scale > 0, jnp.sum(a * b) / jnp.where(scale > 0, scale, 1.0), 0.0)


def scores(
    candidates: Mapping[str, Array], uncut: Array, *, scales: Sequence[float], weight: float = 0.2
) -> dict[str, Array]:
    """{'npsd', 'tradeoff'} of every candidate, by accuracy. `[networks]` each.

    candidates: what a `nested` model said on a held-out split, {'student': [examples, networks, classes],
        'label': [examples]}.
    uncut: logits of the uncut network, [examples, classes].
    """
    at = jnp.asarray(scales, jnp.float32)
    performance = accuracies(candidates['student'], candidates['label'])
    whole = accuracies(uncut[:, None], candidates['label'])[0]
    return {'npsd': npsd(performance, at, whole), 'tradeoff': tradeoff(performance, at, weight=weight)}


def trials(students: Mapping[str, Mapping[str, Array]], **scores: Array) -> dict[str, dict[str, Array]]:
    """What became of a student of every candidate, and which score had foreseen it.

    students: predictions by split, as `candidates` in `scores`.
    Returns {'accuracy': {split: [networks]}, score: {split: its rank correlation with that accuracy}}.
    """
    true = {split: accuracies(said['student'], said['label']) for split, said in students.items()}
    ranks = {n: {split: rank_correlation(s, a) for split, a in true.items()} for n, s in scores.items()}
    return {'accuracy': true, **ranks}


def choose(
    scores: Float[Array, ' networks'],
    variables: Variables,
    *,
    kept: Sequence[Sequence[int]],
    scales: Sequence[float],
) -> dict[str, Any]:
    """The candidate with the highest score: {'variables': its weights in the shapes of the whole, 'scale'}.

    kept[c] are the hidden widths of candidate c. Everything may be traced: which network it is stays data.
    Of equal scores the first wins. Raises UserError unless there is one score, width and scale each.
    """
    if not scores.shape[0] == len(kept) == len(scales):
        raise UserError(
            f'{len(kept)} candidates at {len(scales)} scales with {scores.shape[0]} scores: give one each'
        )
    best = jnp.argmax(scores)
    chosen = mask_prefix(variables, jnp.asarray(kept, jnp.int32)[best])
    return {'variables': chosen, 'scale': jnp.asarray(scales, jnp.float32)[best]}


def _centred_ranks(x: jax.Array) -> jax.Array:
    """Of each value: how many lie below it minus how many above, halved. `[n]`."""
    return jnp.sum(jnp.sign(x[:, None] - x[None, :]), axis=1) / 2
