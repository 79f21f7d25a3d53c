"""How good and how faithful a language model is, from what it said of each token; in float64 on the host."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from kdjax.errors import UserError
from kdjax.metrics.calibration import reliability

MEANS = {'nll': 'nll', 'kl': 'kl', 'agreement': 'agree', 'accuracy': 'hit'}
"""Metrics that are means over the tokens that count, and of what."""


def language(said: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Metrics over all tokens that count, `where`; the mean is over the split's tokens, not over rows.

    said: per token, all of one shape, e.g. `[rows, length]`:
        nll: -log s(label) in nats. hit: whether the likeliest token is the label. confidence: max_v s(v), in 0..1.
        kl: KL(teacher || student) in nats; agree: whether the likeliest tokens are the same. Both may be left out.
        bytes: how many bytes of text the label stands for; may be left out.
        where: bool, which tokens count. What the others hold is never read.

    Returns nll; perplexity = exp(nll); accuracy; ece (15 bins, arXiv 1706.04599); kl and agreement where there is a
    teacher; bits_per_byte = sum nll / (ln 2 sum bytes) where `bytes` are given.
    Raises `UserError` where no token counts, and where one that counts is not finite.
    """
    where = np.asarray(said['where'], bool)
    if not where.any():
        raise UserError(f'no token counts among {list(where.shape)}: every label of the split is masked or padding')
    counted = {name: np.asarray(values)[where].astype(np.float64) for name, values in said.items() if name != 'where'}
    for name, values in counted.items():
        if bad := np.count_nonzero(~np.isfinite(values)):
            raise UserError(f'{name} is not finite at {bad} of {len(values)} tokens: the model has diverged')
    measured = {metric: float(counted[name].mean()) for metric, name in MEANS.items() if name in counted}
    measured['perplexity'] = math.exp(min(measured['nll'], 700.0))
    measured['ece'] = reliability(counted['confidence'], counted['hit']).error
    if 'bytes' in counted:
        measured['bits_per_byte'] = float(counted['nll'].sum() / (math.log(2) * counted['bytes'].sum()))
    return measured
