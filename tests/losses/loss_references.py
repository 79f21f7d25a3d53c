"""The published formulas once more, as loops over plain float64 numbers: what each loss has to equal.

Every function takes the loss's arguments and returns its values, one for each example; those of losses that
couple the batch return the published scalar.
"""

import itertools
import math

import numpy as np


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def per_row(row_loss):
    """A loss of one example, as a loss of a batch of them."""

    def of_batch(*args, **options):
        return np.array([row_loss(*row, **options) for row in zip(*args, strict=True)])

    return of_batch


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


@per_row
def cross_entropy(logits, label, smoothing=0.0):
    q = np.eye(len(logits))[label] if np.ndim(label) == 0 else label
    q = (1 - smoothing) * q + smoothing / len(logits)
    return -sum(q * np.log(softmax(logits)))


@per_row
def entropy(logits, temperature=1.0):
    p = softmax(logits / temperature)
    return -sum(p * np.log(p))


@per_row
def kl_forward(s, t, temperature=1.0, t_squared=False):
    return (temperature**2 if t_squared else 1) * kl(softmax(t / temperature), softmax(s / temperature))


@per_row
def kl_reverse(s, t, temperature=1.0):
    return kl(softmax(s / temperature), softmax(t / temperature))


@per_row
def generalized_jsd(s, t, beta=0.5, normalized=False):
    s, p = softmax(s), softmax(t)
    m = beta * p + (1 - beta) * s
    return (beta * kl(p, m) + (1 - beta) * kl(s, m)) / (beta * (1 - beta) if normalized else 1)


@per_row
def skew_kl(s, t, alpha=0.1):
    s, p = softmax(s), softmax(t)
    return kl(p, alpha * p + (1 - alpha) * s)


@per_row
def skew_kl_reverse(s, t, alpha=0.1):
    s, p = softmax(s), softmax(t)
    return kl(s, (1 - alpha) * p + alpha * s)


@per_row
def total_variation(s, t):
    return max(
        abs(sum(softmax(s)[list(event)]) - sum(softmax(t)[list(event)]))
        for size in range(len(s) + 1)
        for event in itertools.combinations(range(len(s)), size)
    )


def negative_log_acceptance(s, t):
    return -np.log(1 - total_variation(s, t))


def hybrid_weights(s, t, eta=3.0):
    return np.exp(-eta * (1 - total_variation(s, t)))


def hybrid_acceptance(s, t, weights=None):
    weights = hybrid_weights(s, t) if weights is None else weights
    return weights * kl_forward(s, t) + (1 - weights) * total_variation(s, t)


@per_row
def alpha_divergence(s, t, alpha=0.5):
    return (sum(softmax(t) ** alpha * softmax(s) ** (1 - alpha)) - 1) / (alpha * (alpha - 1))


@per_row
def mse(s, t):
    return np.mean((s - t) ** 2)


@per_row
def cosine_logits(s, t):
    return 1 - s @ t / math.sqrt((s @ s) * (t @ t))


@per_row
def pearson(s, t):
    return 1 - np.corrcoef(s, t)[0, 1]


@per_row
def tckd(s, t, label, temperature=1.0):
    (s, p) = (softmax(z / temperature)[label] for z in (s, t))
    return kl([p, 1 - p], [s, 1 - s])


@per_row
def nckd(s, t, label, temperature=1.0):
    return kl(softmax(np.delete(t, label) / temperature), softmax(np.delete(s, label) / temperature))


def dkd(s, t, labels, alpha=1.0, beta=8.0, temperature=1.0):
    return alpha * tckd(s, t, labels, temperature=temperature) + beta * nckd(
        s, t, labels, temperature=temperature
    )


def dist(s, t, beta=1.0, gamma=1.0, temperature=1.0, t_squared=False):
    s, t = (np.array([softmax(row / temperature) for row in z]) for z in (s, t))
    scalar = beta * np.mean(pearson(s, t)) + gamma * np.mean(pearson(s.T, t.T))
    return (temperature**2 if t_squared else 1) * scalar


@per_row
def plackett_luce(s, t, label, temperature=1.0):
    order = [label, *sorted((c for c in range(len(s)) if c != label), key=lambda c: -t[c])]
    weights = softmax(t / temperature)
    return sum(
        weights[c] * (math.log(sum(math.exp(s[d]) for d in order[k:])) - s[c]) for k, c in enumerate(order)
    )


@per_row
def ofa(s, t, label, gamma=1.0, form='released'):
    p, log_s = softmax(t), np.log(softmax(s))
    if form == 'paper':
        rest = [p[c] * log_s[c] for c in range(len(s)) if c != label]
        return -((1 + p[label]) ** gamma) * log_s[label] - sum(rest)
    mask = np.eye(len(s))[label]
    return -sum(((p + mask) ** gamma - mask) * log_s)


@per_row
def attention_transfer(s, t, form='code', power=2):
    s, t = ((np.abs(a) ** power).sum(axis=-1).ravel() for a in (s, t))
    gap = s / np.linalg.norm(s) - t / np.linalg.norm(t)
    return np.mean(gap**2) if form == 'code' else np.linalg.norm(gap)


def similarity_preserving(s, t):
    s, t = (a.reshape(len(a), -1) for a in (s, t))
    s, t = ((a @ a.T) / np.linalg.norm(a @ a.T, axis=1, keepdims=True) for a in (s, t))
    return np.sum((s - t) ** 2) / len(s) ** 2


def smooth_l1(x):
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def rkd_distance(s, t):
    n = range(len(s))
    s, t = (np.array([[np.linalg.norm(a[i] - a[j]) for j in n] for i in n]) for a in (s, t))
    s, t = (d / d[d > 0].mean() for d in (s, t))
    return np.mean([smooth_l1(s[i, j] - t[i, j]) for i in n for j in n])


def rkd_angle(s, t):
    def cosine(a, i, j, k):
        one, other = a[j] - a[i], a[k] - a[i]
        lengths = np.linalg.norm(one) * np.linalg.norm(other)
        return np.vdot(one, other) / lengths if lengths else 0.0

    triplets = itertools.product(range(len(s)), repeat=3)
    return np.mean([smooth_l1(cosine(s, *ijk) - cosine(t, *ijk)) for ijk in triplets])


def pkt(s, t):
    s, t = (a.reshape(len(a), -1) for a in (s, t))
    s, t = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (s, t))
    s, t = ((a @ a.T + 1) / 2 for a in (s, t))
    s, t = (a / a.sum(axis=1, keepdims=True) for a in (s, t))
    return np.mean(t * np.log((t + 1e-7) / (s + 1e-7)))


def cka(s, t):
    s, t = (a.reshape(len(a), -1) - a.reshape(len(a), -1).mean(axis=0) for a in (s, t))
    cross, own, other = (np.linalg.norm(a.T @ b) for a, b in ((s, t), (s, s), (t, t)))
    return 1 - cross**2 / (own * other)


def vid(s, t, rho):
    variance = np.log1p(np.exp(rho)) + 1e-5
    values = 0.5 * ((s - t) ** 2 / variance + np.log(variance))
    return values.reshape(len(s), -1).mean(axis=1)


def in_batch_nce(s, t, temperature=0.07, symmetric=False):
    s, t = (
        a.reshape(len(a), -1) / np.linalg.norm(a.reshape(len(a), -1), axis=1, keepdims=True) for a in (s, t)
    )
    scores = s @ t.T / temperature
    rows = np.mean([-math.log(softmax(row)[i]) for i, row in enumerate(scores)])
    columns = np.mean([-math.log(softmax(row)[i]) for i, row in enumerate(scores.T)])
    return (rows + columns) / 2 if symmetric else rows


def memory_nce(scores, log_z, bank_size):
    p, k = np.exp(scores - log_z), scores.shape[1] - 1
    positive = p[:, 0] / (p[:, 0] + k / bank_size)
    negative = (k / bank_size) / (p[:, 1:] + k / bank_size)
    return -np.log(positive) - np.log(negative).sum(axis=1)


def crd(s, t, s_rows, t_rows, log_z, bank_size, temperature=0.07):
    s, t = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (s, t))
    of_s = np.array([row @ a for row, a in zip(t_rows, s, strict=True)]) / temperature
    of_t = np.array([row @ a for row, a in zip(s_rows, t, strict=True)]) / temperature
    return memory_nce(of_s, log_z[0], bank_size) + memory_nce(of_t, log_z[1], bank_size)


@per_row
def binary_cross_entropy(logits, targets):
    p = 1 / (1 + np.exp(-logits))
    return np.mean(-targets * np.log(p) - (1 - targets) * np.log(1 - p))


@per_row
def sparse_cross_entropy(s, ids, weights, temperature=1.0):
    return -sum(w * math.log(softmax(s / temperature)[i]) for i, w in zip(ids, weights, strict=True) if i >= 0)


def sparse_kl(s, ids, weights, entropy, temperature=1.0, t_squared=False):
    return (temperature**2 if t_squared else 1) * (
        sparse_cross_entropy(s, ids, weights, temperature=temperature) - entropy
    )


def among_known(s, ids, probs, temperature=1.0):
    """(probability, student's probability) of each known class."""
    s = softmax(s / temperature)
    return [(p, s[i]) for i, p in zip(ids, probs, strict=True) if i >= 0]


@per_row
def truncated_kl(s, ids, probs):
    return sum(p * math.log(p / q) for p, q in among_known(s, ids, probs))


@per_row
def renormalized_kl(s, ids, probs, both=False):
    p, q = np.array(among_known(s, ids, probs)).T
    return kl(p / p.sum(), q / q.sum() if both else q)


@per_row
def tail_bucket_kl(s, ids, probs, temperature=1.0, t_squared=False):
    p, q = np.array(among_known(s, ids, probs, temperature)).T
    return (temperature**2 if t_squared else 1) * kl([*p, 1 - p.sum()], [*q, 1 - q.sum()])
