"""Choosing examples: the baselines that every condensed set is compared with. Host code, a function of the seed.

Features are `[examples, width]`: flattened pixels, or what a network says of them. Functions that choose within a class
give rows `[per_class, classes]`, entry [i, c] of class c, the best first; ties go to the first row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from kdjax.errors import UserError


def _draws(seed: int, *place: int) -> np.random.Generator:
    return np.random.Generator(
        np.random.Philox(key=np.array([seed % 2**64, 0], np.uint64), counter=[*place, 0, 0, 0, 0][:4])
    )


def members(labels: np.ndarray, classes: int, per_class: int) -> list[np.ndarray]:
    """The rows of every class. Raises `UserError` where a class has fewer than `per_class`, or none."""
    found = [np.flatnonzero(labels == c) for c in range(classes)]
    for c, rows in enumerate(found):
        if not len(rows):
            raise UserError(f'class {c} has no examples: leave it out, and number the others from 0')
        if len(rows) < per_class:
            raise UserError(
                f'class {c} has {len(rows)} examples, and {per_class} for each class are wanted: lower the number of '
                'images per class, or leave the class out'
            )
    return found


def within_classes(
    choose: Callable[[np.ndarray, int, int], np.ndarray],
    features: np.ndarray,
    labels: np.ndarray,
    *,
    classes: int,
    per_class: int,
) -> np.ndarray:
    """Rows `[per_class, classes]`: `choose(features of a class, per_class, class)` gives places within it."""
    flat = np.asarray(features, np.float64).reshape(len(labels), -1)
    chosen = [
        rows[np.asarray(choose(flat[rows], per_class, c))] for c, rows in enumerate(members(labels, classes, per_class))
    ]
    return np.stack(chosen, axis=1)


def random_rows(labels: np.ndarray, *, classes: int, per_class: int, seed: int) -> np.ndarray:
    """As many at random of every class, `[per_class, classes]`, without repeats."""
    found = members(labels, classes, per_class)
    return np.stack([_draws(seed, c).permutation(rows)[:per_class] for c, rows in enumerate(found)], axis=1)


def repeated_random(
    examples: int, size: int, *, rounds: int, seed: int, replacement: bool = False
) -> Iterator[np.ndarray]:
    """RS2: for each round another random subset of `size` rows, without repeats within it.

    Without replacement, subsets are consecutive parts of one permutation; where it ends within a subset, the rest
    comes from a new permutation, of rows that this subset does not have (the released code takes the head of the old
    one, and is off by one). With replacement every round draws anew. Raises UserError on sizes.
    Source: RS2, arXiv 2305.18424, algorithms 1 and 2.
    """
    if not 1 <= size <= examples:
        raise UserError(f'subsets of {size} out of {examples} examples: choose from 1 to {examples}')
    left = np.empty(0, np.int64)
    for number in range(rounds):
        draws = _draws(seed, number)
        if replacement:
            yield draws.permutation(examples)[:size]
            continue
        if len(left) >= size:
            subset, left = left[:size], left[size:]
        else:
            fresh = draws.permutation(examples)
            others = fresh[~np.isin(fresh, left)]
            more = size - len(left)
            subset, taken = np.concatenate([left, others[:more]]), others[:more]
            left = fresh[~np.isin(fresh, taken)]
        yield subset


def herding(features: np.ndarray, count: int, label: int = 0) -> np.ndarray:
    """Places whose running mean follows the mean of all: each next one minimises the distance between the two.

    Source: Welling, ICML 2009; iCaRL, arXiv 1611.07725, algorithm 4.
    """
    del label
    target, total = features.mean(0), np.zeros(features.shape[1])
    chosen: list[int] = []
    for i in range(count):
        gaps = np.square(target - (total + features) / (i + 1)).sum(1)
        gaps[chosen] = np.inf
        chosen.append(int(gaps.argmin()))
        total += features[chosen[-1]]
    return np.array(chosen)


def k_center(features: np.ndarray, count: int, label: int = 0) -> np.ndarray:
    """Greedy k-center: first the place nearest to the mean, then always the one farthest from all chosen.

    Its largest distance to a chosen one is at most twice the best possible.
    Source: Sener and Savarese, arXiv 1708.00489.
    """
    del label
    nearest = np.full(len(features), np.inf)
    chosen = [int(np.square(features - features.mean(0)).sum(1).argmin())]
    for _ in range(count - 1):
        nearest = np.minimum(nearest, np.square(features - features[chosen[-1]]).sum(1))
        open_ = nearest.copy()
        open_[chosen] = -1
        chosen.append(int(open_.argmax()))
    return np.array(chosen)


def k_means(features: np.ndarray, clusters: int, *, seed: int, iterations: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Centres `[clusters, width]` and the cluster of each example: k-means++ starts, then Lloyd's steps to the end.

    A cluster that loses its last example takes the one farthest from its own centre.
    Source: Arthur and Vassilvitskii, SODA 2007. Raises UserError where there are more clusters than examples.
    """
    features = np.asarray(features, np.float64)
    if not 1 <= clusters <= len(features):
        raise UserError(f'{clusters} clusters of {len(features)} examples: choose from 1 to {len(features)}')
    centres = _spread_out(features, clusters, _draws(seed))
    assigned = np.full(len(features), -1)
    for _ in range(iterations):
        distances = _squares(features, centres)
        nearest = distances.argmin(1)
        for empty in np.setdiff1d(np.arange(clusters), nearest):
            spare = np.bincount(nearest, minlength=clusters)[nearest] > 1
            own = distances[np.arange(len(features)), nearest]
            nearest[np.where(spare, own, -1.0).argmax()] = empty
        if (nearest == assigned).all():
            break
        assigned = nearest
        centres = np.stack([features[assigned == k].mean(0) for k in range(clusters)])
    return centres, assigned


def _spread_out(features: np.ndarray, clusters: int, draws: np.random.Generator) -> np.ndarray:
    chosen = [int(draws.integers(len(features)))]
    nearest = np.square(features - features[chosen[0]]).sum(1)
    for _ in range(clusters - 1):
        total = nearest.sum()
        weights = nearest / total if total > 0 else np.full(len(features), 1 / len(features))
        chosen.append(int(draws.choice(len(features), p=weights)))
        nearest = np.minimum(nearest, np.square(features - features[chosen[-1]]).sum(1))
    return features[chosen]


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances `[rows of a, rows of b]`, never below 0."""
    return np.maximum(np.square(a).sum(1)[:, None] - 2 * a @ b.T + np.square(b).sum(1)[None], 0.0)


def nearest_to_centres(features: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
    """One place for each cluster of `k_means`: the example nearest to its centre; no place twice.

    What DREAM draws real batches by, with as many clusters as the batch has images (arXiv 2302.14416, section 3.2).
    """
    centres, _ = k_means(features, clusters, seed=seed)
    distances = _squares(np.asarray(features, np.float64), centres)
    chosen: list[int] = []
    for k in range(clusters):
        distances[chosen, k] = np.inf
        chosen.append(int(distances[:, k].argmin()))
    return np.array(chosen)


def k_means_rows(features: np.ndarray, labels: np.ndarray, *, classes: int, per_class: int, seed: int) -> np.ndarray:
    """`nearest_to_centres` of every class, `[per_class, classes]`."""

    def choose(own: np.ndarray, count: int, label: int) -> np.ndarray:
        return nearest_to_centres(own, count, seed=seed + label)

    return within_classes(choose, features, labels, classes=classes, per_class=per_class)


def el2n(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How hard an example is early in training: |p - one-hot|, the mean over networks, in [0, sqrt 2], `[examples]`.

    probabilities `[networks, examples, classes]`. Source: arXiv 2107.07075, definition 2.2.
    """
    hit = np.eye(probabilities.shape[-1])[labels]
    return np.linalg.norm(np.asarray(probabilities, np.float64) - hit[None], axis=-1).mean(0)


def by_score(
    scores: np.ndarray, labels: np.ndarray, *, classes: int, per_class: int, largest: bool = True
) -> np.ndarray:
    """The largest (hardest) or smallest scores of every class, `[per_class, classes]`, the most extreme first."""

    def choose(own: np.ndarray, count: int, label: int) -> np.ndarray:
        del label
        return np.argsort(-own[:, 0] if largest else own[:, 0], kind='stable')[:count]

    return within_classes(choose, scores[:, None], labels, classes=classes, per_class=per_class)


def graph_cut(features: np.ndarray, count: int, label: int = 0, *, cover: float = 2.0) -> np.ndarray:
    """Greedy maximiser of cover * sum_{i, j in S} s_ij - sum_{i in S, j in S} s_ij, i of all: near all, apart from S.

    s: cosines of features, shifted to [0, 1]. Source: Iyer and others, ALT 2021; DeepCore, arXiv 2204.08499.
    """
    del label
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(lengths > 0, lengths, 1.0)
    similar = 0.5 + 0.5 * unit @ unit.T
    gain = cover * similar.sum(0) - np.diag(similar)
    chosen: list[int] = []
    for _ in range(count):
        open_ = gain.copy()
        open_[chosen] = -np.inf
        chosen.append(int(open_.argmax()))
        gain = gain - 2 * similar[:, chosen[-1]]
    return np.array(chosen)


def from_bins(features: np.ndarray, count: int, label: int = 0, *, bins: int = 10, seed: int = 0) -> np.ndarray:
    """Data-set quantisation: `graph_cut` fills bins of equal size in turn, and each gives as many at random.

    Early bins hold what represents the rest, late ones the outliers. Where they cannot
    give equally, the first give one more. Source: DQ, arXiv 2308.10524, section 3.2.
    """
    bins = min(bins, count)
    left, parts = np.arange(len(features)), []
    for number in range(bins):
        size = len(left) // (bins - number)
        chosen = graph_cut(features[left], size)
        parts.append(left[chosen])
        left = np.delete(left, chosen)
    share = [count // bins + (number < count % bins) for number in range(bins)]
    drawn = [
        _draws(seed, label, number).permutation(part)[:wanted]
        for number, (part, wanted) in enumerate(zip(parts, share, strict=True))
    ]
    return np.concatenate(drawn)
