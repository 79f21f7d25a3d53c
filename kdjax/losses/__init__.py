"""Losses: pure functions, arrays in, one value for each example out.

The contract of every loss here:
student first, teacher second; float32 inside and out (float64 where an input is float64), whatever comes in;
no reduction over the batch; `axis` is the axis of classes or channels; `where` marks the examples that
count: the others are 0 in the output, and touch neither another example's value nor any gradient. A loss
that couples the batch says so, and returns row contributions whose mean over the examples that count is the
published scalar.

`standardize` transforms logits, and `memory_scores`, `memory_log_z`, `update_memory` keep a memory bank:
these four are no losses, nor is what says 'Not a loss' of itself.

`fused_divergence` takes its divergence from `kdjax.losses.pointwise`, a public module: values and slopes word by word.
"""

from .acceptance import hybrid_acceptance, negative_log_acceptance
from .calibrated import calibrated_top_k, recalibrated
from .chunked import chunked
from .contrastive import crd, in_batch_nce, memory_log_z, memory_nce, memory_scores, update_memory
from .correlation import dist, pearson
from .cross_tokenizer import (
    alm,
    boundary_log_probs,
    chunk_log_probs,
    first_of_chunks,
    last_of_chunks,
    merged_chunks,
    shared_vocabulary,
    uld,
)
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
from .dual_space import cross_attention, spread, student_space
from .fused import fused_divergence
from .hints import attention_transfer, hint_mse
from .interpolation import TaidState, adaptive_kl, taid, taid_start, taid_step
from .labels import cross_entropy, entropy
from .logits import cosine_logits, mse_logits, standardize
from .ofa import ofa
from .policy import group_advantages, kl_estimate, log_mixture, policy_gradient, rewards_to_go
from .preference import advantage_expectation, dpo
from .ranking import plackett_luce
from .relational import cka, pkt, rkd_angle, rkd_distance, similarity_preserving, vid
from .relations import attention_relation, value_relation
from .selection import adaspec, select_tokens
from .sparse import renormalized_kl, sparse_cross_entropy, sparse_kl, tail_bucket_kl, truncated_kl

__all__ = [
    'TaidState',
    'adaptive_kl',
    'adaspec',
    'advantage_expectation',
    'alm',
    'alpha_divergence',
    'attention_relation',
    'attention_transfer',
    'binary_cross_entropy',
    'boundary_log_probs',
    'calibrated_top_k',
    'chunk_log_probs',
    'chunked',
    'cka',
    'cosine_logits',
    'crd',
    'cross_attention',
    'cross_entropy',
    'dist',
    'dkd',
    'dpo',
    'entropy',
    'first_of_chunks',
    'fused_divergence',
    'generalized_jsd',
    'group_advantages',
    'hint_mse',
    'hybrid_acceptance',
    'in_batch_nce',
    'jensen_shannon',
    'kl_estimate',
    'kl_forward',
    'kl_reverse',
    'last_of_chunks',
    'log_mixture',
    'memory_log_z',
    'memory_nce',
    'memory_scores',
    'merged_chunks',
    'mse_logits',
    'nckd',
    'negative_log_acceptance',
    'ofa',
    'pearson',
    'pkt',
    'plackett_luce',
    'policy_gradient',
    'recalibrated',
    'renormalized_kl',
    'rewards_to_go',
    'rkd_angle',
    'rkd_distance',
    'select_tokens',
    'shared_vocabulary',
    'similarity_preserving',
    'skew_kl',
    'skew_kl_reverse',
    'sparse_cross_entropy',
    'sparse_kl',
    'spread',
    'standardize',
    'student_space',
    'taid',
    'taid_start',
    'taid_step',
    'tail_bucket_kl',
    'tckd',
    'total_variation',
    'truncated_kl',
    'uld',
    'update_memory',
    'value_relation',
    'vid',
]
