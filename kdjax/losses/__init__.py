"""Losses: pure functions, arrays in, one value for each example out.

The contract of every loss here:
student first, teacher second; float32 inside and out (float64 where an input is float64), whatever comes in;
no reduction over the batch; `axis` is the axis of classes or channels; `where` marks the examples that
count: the others are 0 in the output, and touch neither another example's value nor any gradient. A loss
that couples the batch says so, and returns row contributions whose mean over the examples that count is the
published scalar.

`standardize` transforms logits, and `memory_scores`, `memory_log_z`, `update_memory` keep a memory bank:
these four are no losses.
"""

from .contrastive import crd, in_batch_nce, memory_log_z, memory_nce, memory_scores, update_memory
from .correlation import dist, pearson
from .decoupled import dkd, nckd, tckd
from .discriminator import binary_cross_entropy
from .divergences import (
    alpha_divergence,
    generalized_jsd,
    jensen_shannon,
    kl_forward,
    kl_reverse,
    skew_kl,
    skew_kl_reverse,
    total_variation,
)
from .hints import attention_transfer, hint_mse
from .labels import cross_entropy, entropy
from .logits import cosine_logits, mse_logits, standardize
from .ofa import ofa
from .ranking import plackett_luce
from .relational import cka, pkt, rkd_angle, rkd_distance, similarity_preserving, vid

__all__ = [
    'alpha_divergence',
    'attention_transfer',
    'binary_cross_entropy',
    'cka',
    'cosine_logits',
    'crd',
    'cross_entropy',
    'dist',
    'dkd',
    'entropy',
    'generalized_jsd',
    'hint_mse',
    'in_batch_nce',
    'jensen_shannon',
    'kl_forward',
    'kl_reverse',
    'memory_log_z',
    'memory_nce',
    'memory_scores',
    'mse_logits',
    'nckd',
    'ofa',
    'pearson',
    'pkt',
    'plackett_luce',
    'rkd_angle',
    'rkd_distance',
    'similarity_preserving',
    'skew_kl',
    'skew_kl_reverse',
    'standardize',
    'tckd',
    'total_variation',
    'update_memory',
    'vid',
]
