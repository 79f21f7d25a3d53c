"""The fused vocabulary loss once more: dense logits in float64, and the divergences of `loss_references`."""

import functools
import math

import numpy as np
from loss_references import generalized_jsd, kl, kl_forward, kl_reverse, per_row, skew_kl, skew_kl_reverse, softmax


@per_row
def continuous_jsd(s, t, beta):
    s, p = softmax(s), softmax(t)
    m = beta * p + (1 - beta) * s
    return (1 - beta) * kl(p, m) + beta * kl(s, m)


@per_row
def total_variation(s, t):
    return sum(abs(softmax(s) - softmax(t))) / 2


def logits(hidden, head, cap, vocabulary):
    z = hidden @ head[:vocabulary].T
    return z if cap is None else cap * np.tanh(z / cap)


def of_distance(distance):
    """The fused loss whose divergence of logits `(student, teacher) -> [examples]` is known."""

    def loss(
        hidden, head, label, *teachers, divergence=None, weights=None, hard_weight=0.0, temperature=1.0,
        t_squared=False, softcaps=None, vocabulary=None, chunk=None,
    ):  # fmt: skip
        count = len(teachers) // 2
        weights, softcaps = weights or (1.0,) * count, softcaps or (None,) * (count + 1)
        z = logits(hidden, head, softcaps[0], vocabulary)
        values = np.zeros(len(label))
        for weight, cap, h, w in zip(weights, softcaps[1:], teachers[::2], teachers[1::2], strict=True):
            apart = distance(z / temperature, logits(h, w, cap, vocabulary) / temperature)
            values += weight * (temperature**2 if t_squared else 1.0) * apart
        if hard_weight:
            values -= [hard_weight * math.log(softmax(row)[y]) for row, y in zip(z, label, strict=True)]
        return values

    return loss


DISTANCES = {
    'kl_forward': kl_forward,
    'kl_reverse': kl_reverse,
    'jsd_paper': functools.partial(generalized_jsd, beta=0.1),
    'jsd_normalized': functools.partial(generalized_jsd, beta=0.9, normalized=True),
    'jsd_continuous': functools.partial(continuous_jsd, beta=0.3),
    'skew_kl': functools.partial(skew_kl, alpha=0.1),
    'skew_kl_reverse': functools.partial(skew_kl_reverse, alpha=0.2),
    'total_variation': total_variation,
}
