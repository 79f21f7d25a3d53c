"""The losses of the language-model literature once more, as loops over plain float64 numbers."""

import math

import numpy as np
from loss_references import kl, per_row, softmax


@per_row
def kl_estimate(s, p, form='k2'):
    r = p - s
    return {'k1': -r, 'k2': r * r / 2, 'k3': math.exp(r) - 1 - r}[form]


@per_row
def policy_gradient(log_prob, advantage, behaviour=None, clip=None):
    if behaviour is None:
        return -advantage * log_prob
    ratio = math.exp(log_prob - behaviour)
    if clip is None:
        return -advantage * ratio
    return max(-advantage * ratio, -advantage * min(max(ratio, 1 - clip), 1 + clip))


@per_row
def dpo(chosen, rejected, reference_chosen, reference_rejected, beta=0.1):
    margin = beta * (chosen - reference_chosen) - beta * (rejected - reference_rejected)
    return -math.log(1 / (1 + math.exp(-margin)))


@per_row
def advantage_expectation(s, t, r, clamped=False):
    advantage = np.log(softmax(t) / softmax(r))
    if clamped:
        advantage = np.clip(advantage, 1e-8, 1 - 1e-8)
    return -sum(softmax(s) * advantage)


def taid(s, teacher, t):
    mixed = [softmax((1 - t) * a + t * b) for a, b in zip(s, teacher, strict=True)]
    return np.array([-sum(q * np.log(softmax(a))) for a, q in zip(s, mixed, strict=True)])


@per_row
def adaptive_kl(s, t, mu=0.5):
    s, p = softmax(s), softmax(t)
    head, held = [], 0.0
    for c in sorted(range(len(p)), key=lambda c: -p[c]):
        held += p[c]
        if not head or held <= mu:
            head.append(c)
    gap = abs(p - s)
    w = gap[head].sum() / gap.sum()
    return w * kl(p, s) + (1 - w) * kl(s, p)


def adaspec(s, t, reference, keep=0.4):
    own, learnt = (
        np.array([kl(softmax(p), softmax(q)) for p, q in zip(t, logits, strict=True)]) for logits in (s, reference)
    )
    kept = own - learnt >= np.quantile(own - learnt, 1 - keep)
    return sum(own[kept]) / len(own)


@per_row
def calibrated_top_k(s, ids, probs, scale=0.3, form='softmax'):
    own = softmax(s)[ids]
    q = softmax(own / scale) if form == 'softmax' else (own + 1e-6) / sum(own + 1e-6)
    return kl(softmax(probs / scale), q)


@per_row
def alm(s, p, temperature=100.0):
    x, y = (math.exp(min(a, 0.0) / temperature - 1e-6) for a in (p, s))
    return x * math.log(x / y) + (1 - x) * math.log((1 - x) / (1 - y))


@per_row
def uld(s, t, temperature=1.0):
    s, p = (sorted(softmax(z / temperature), reverse=True) for z in (s, t))
    s, p = (list(x) + [0.0] * (max(len(s), len(p)) - len(x)) for x in (s, p))
    return sum(abs(a - b) for a, b in zip(s, p, strict=True))


@per_row
def student_space(s, projected, label, correct_only=True):
    value = -math.log(softmax(projected)[label])
    if not correct_only or np.argmax(projected) == label:
        value += kl(softmax(projected), softmax(s))
    return value


def relation(queries, keys, visible):
    """softmax(q k / sqrt(d)) of one head, `[time, time]`, rows over the keys that a query sees."""
    rows = np.zeros((len(queries), len(keys)))
    for i, q in enumerate(queries):
        seen = [j for j in range(len(keys)) if visible(i, j)]
        rows[i, seen] = softmax(np.array([q @ keys[j] for j in seen]) / math.sqrt(len(q)))
    return rows


def attention_relation(sq, sk, tq, tk, causal=False):
    """The mean over heads and queries, for `[time, heads, width]`."""

    def visible(i, j):
        return j <= i or not causal

    pairs = [
        (relation(tq[:, h], tk[:, h], visible), relation(sq[:, h], sk[:, h], visible)) for h in range(sq.shape[1])
    ]
    return np.mean([kl(p, q) for teacher, student in pairs for p, q in zip(teacher, student, strict=True)])


def value_relation(s, t, causal=False, heads=None):
    if heads is not None:
        s, t = (x.reshape(len(x), heads, -1) for x in (s, t))
    return attention_relation(s, s, t, t, causal)
