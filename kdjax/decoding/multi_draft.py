"""How often a verifier can accept one of several draft tokens, exactly: the optimum of each way to draft.

p is the target's next-token distribution, q the draft's, n the number of drafts at this place. Over all verifiers whose
emitted token has the law p, the greatest probability that it is one of the drafts is, by linear-programming duality,

    alpha* = 1 + min over sets H of tokens of P(H) - Q(H),    Q(H) = Pr(all n drafts lie in H).

For drafts with and without replacement a prefix of the tokens sorted by q / p, descending, is a minimiser.
Source: Hu et al., arXiv 2502.18779, sections 3 and 4.
"""

import math

import numpy as np
from jaxtyping import Float

STEP = 0.25
"""In log time; the trapezoid rule errs by exp(-pi^2 / STEP) where a doubly exponential tail is integrated."""
FIRST, LAST_MEAN = -14.0, 40.0

Probs = Float[np.ndarray, '_']


def with_replacement(p: Probs, q: Probs, drafts: int) -> float:
    """alpha* of `drafts` independent draws from q: Q(H) = q(H)^n. In [0, 1]."""
    p, q = distributions(p, q, drafts)
    order = _by_ratio(p, q)
    return _optimum(p[order], np.cumsum(q[order]) ** drafts)


def without_replacement(p: Probs, q: Probs, drafts: int) -> float:
    """alpha* of `drafts` different tokens, drawn from q one after the other and each time renormalised. In [0, 1].

    Q(H) is exact to some 1e-12, in O(n V) for every n. Raises ValueError where q has fewer tokens than drafts.
    """
    p, q = distributions(p, q, drafts)
    enough(q, drafts)
    order = _by_ratio(p, q)
    return _optimum(p[order], prefixes_without_replacement(q[order], drafts))


def greedy(p: Probs, q: Probs, drafts: int) -> float:
    """alpha* where the drafts are the n - 1 likeliest tokens of q, and one drawn from the rest.

    sum of p over the likeliest + sum of min(p, q') over the rest, q' = q renormalised there. In [0, 1]. `greedy_law`
    is the draft law that reaches it with ordinary verification.
    """
    p, q = distributions(p, q, drafts)
    top, rest = greedy_law(q, drafts)
    return float(np.sum(p[top]) + np.sum(np.minimum(p, rest)))


def greedy_law(q: Probs, drafts: int) -> tuple[np.ndarray, Probs]:
    """The n - 1 likeliest tokens of q (of equals, the first), and q renormalised over the others, 0 on these.

    Verifying the one random draft against p with this law as the draft's (`verification.verify`) emits the law p: a
    rejection draws from max(p - q', 0), which is p itself on the likeliest tokens, and those are drafts too.
    """
    enough(np.asarray(q), drafts)
    top = np.argsort(-np.asarray(q), kind='stable')[: drafts - 1]
    rest = np.array(q, float)
    rest[top] = 0
    return top, rest / rest.sum()


def prefixes_without_replacement(q: Probs, drafts: int) -> Float[np.ndarray, 'vocab']:
    """Pr(n draws without replacement all lie in the first k tokens), k = 1 .. V.

    Draws without replacement are the order in which clocks of rates q_i ring. Some draw lies outside H iff a clock
    of H's complement rings when fewer than n of H have, so with c = 1 - q(H)

        1 - Q(H) = c sum_{k < n} integral_0^inf e^-t E_k(t) dt,

    E_k the elementary symmetric sum of e^(q_i t) - 1 over i in H: one pass over the tokens for each k, at every node
    of t at once. The integral runs over log t.
    """
    outside = np.append(np.cumsum(q[::-1])[::-1], 0.0)[1:]
    missed = outside.copy()
    if drafts > 1:
        time = np.exp(_log_times(q, drafts))
        log_factors = _log_expm1(q[:, None] * time)
        log_sums = np.zeros((len(q) + 1, len(time)))
        for _ in range(1, drafts):
            log_sums = _next_elementary(log_sums, log_factors)
            missed += outside * np.sum(np.exp(log_sums[1:] - time) * (time * STEP), axis=1)
    return 1 - missed


def _log_times(q: np.ndarray, drafts: int) -> np.ndarray:
    """Nodes in log t: e^-t E_k falls like exp(-(1 - the k largest q) t), and at first grows like t^k, k >= 1."""
    slowest = math.fsum(np.sort(q)[: len(q) - drafts + 1])
    return np.arange(FIRST, math.log(LAST_MEAN / slowest) + STEP, STEP)


def _next_elementary(log_sums: np.ndarray, log_factors: np.ndarray) -> np.ndarray:
    """log E_(k+1) of the first 0 .. V tokens: E_(k+1)(first i) = sum_{j <= i} factor_j E_k(first j - 1)."""
    sums = np.logaddexp.accumulate(log_sums[:-1] + log_factors, axis=0)
    return np.concatenate([np.full_like(sums[:1], -np.inf), sums])


def _log_expm1(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide='ignore'):
        return x + np.log(-np.expm1(-x))


def _optimum(p: np.ndarray, inside: np.ndarray) -> float:
    return float(1 + min(0.0, np.min(np.cumsum(p) - inside)))


def _by_ratio(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """q / p descending; tokens that the target never says come first, those that the draft never says last."""
    with np.errstate(divide='ignore', invalid='ignore'):
        ratio = np.where(p > 0, q / p, np.where(q > 0, np.inf, 0.0))
    return np.argsort(-ratio, kind='stable')


def distributions(p: Probs, q: Probs, drafts: int) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64, summing to 1. Raises ValueError where they are no distributions over one vocabulary."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    if p.shape != q.shape or p.ndim != 1:
        raise ValueError(f'p has shape {p.shape}, q {q.shape}: give two distributions over one vocabulary')
    if drafts < 1:
        raise ValueError(f'{drafts} drafts: at least one token has to be drafted')
    for name, x in (('p', p), ('q', q)):
        if x.min() < 0 or not math.isclose(x.sum(), 1, abs_tol=1e-4):
            raise ValueError(f'{name} sums to {x.sum():.6g} with least entry {x.min():.3g}: it is no distribution')
    return p / p.sum(), q / q.sum()


def enough(q: np.ndarray, drafts: int) -> None:
    """Raises ValueError where q has fewer tokens than drafts that have to differ."""
    if np.count_nonzero(q) < drafts:
        raise ValueError(
            f'the draft gives probability to {np.count_nonzero(q)} tokens, too few for {drafts} different drafts: '
            'draw fewer, or raise its temperature'
        )
