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
from .adversarial import adversarial_discriminator, adversarial_generator
from .calibrated import calibrated_top_k, recalibrated
from .chunked import chunked
from .consistency import boundary, consistency, consistency_tangent, tangent_matching
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
from .distribution_matching import by_time, distribution_matching, em_distillation, f_weight
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
from .gradient_matching import characteristic_distance, gradient_cosine, trajectory_distance
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
from .score_distillation import distilled_score, noise_free_direction, posterior_direction, score_weight
from .score_identity import score_identity, score_implicit_matching
from .score_matching import denoising, denoising_weight, flow_matching
from .selection import adaspec, select_tokens
from .sparse import renormalized_kl, sparse_cross_entropy, sparse_kl, tail_bucket_kl, truncated_kl
from .trajectories import boot, mean_flow, mean_flow_target, progressive_target

__all__ = [
    'TaidState',
    'adaptive_kl',
    'adaspec',
    'advantage_expectation',
    'adversarial_discriminator',
    'adversarial_generator',
    'alm',
    'alpha_divergence',
    'attention_relation',
    'attention_transfer',
    'binary_cross_entropy',
    'boot',
    'boundary',
    'boundary_log_probs',
    'by_time',
    'calibrated_top_k',
    'characteristic_distance',
    'chunk_log_probs',
    'chunked',
    'cka',
    'consistency',
    'consistency_tangent',
    'cosine_logits',
    'crd',
    'cross_attention',
    'cross_entropy',
    'denoising',
    'denoising_weight',
    'dist',
    'distilled_score',
    'distribution_matching',
    'dkd',
    'dpo',
    'em_distillation',
    'entropy',
    'f_weight',
    'first_of_chunks',
    'flow_matching',
    'fused_divergence',
    'generalized_jsd',
    'gradient_cosine',
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
    'mean_flow',
    'mean_flow_target',
    'memory_log_z',
    'memory_nce',
    'memory_scores',
    'merged_chunks',
    'mse_logits',
    'nckd',
    'negative_log_acceptance',
    'noise_free_direction',
    'ofa',
    'pearson',
    'pkt',
    'plackett_luce',
    'policy_gradient',
    'posterior_direction',
    'progressive_target',
    'recalibrated',
    'renormalized_kl',
    'rewards_to_go',
    'rkd_angle',
    'rkd_distance',
    'score_identity',
    'score_implicit_matching',
    'score_weight',
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
    'tangent_matching',
    'tckd',
    'total_variation',
    'trajectory_distance',
    'truncated_kl',
    'uld',
    'update_memory',
    'value_relation',
    'vid',
]
