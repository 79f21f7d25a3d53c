"""Teachers that already spoke, on disk: sparse or hidden, packed into bits, in files that many processes write.

    plan = Plan(Hybrid(51), vocabulary=49152, rows=len(source), length=512, teacher=..., data=..., tokenizer=...)
    write_cache(folder, source, answering(plan.kind, logits_of, seed=plan.seed), plan)
    source = open_cache(folder, teacher=..., data=...).joined(source)
"""

from kdjax.data.teacher_cache.compression import HiddenStates, Sparse, answering, compress, keep_hidden
from kdjax.data.teacher_cache.kinds import Hidden, Hybrid, Kind, Sampled, TopK
from kdjax.data.teacher_cache.plan import Plan
from kdjax.data.teacher_cache.read import Cache, Joined, open_cache
from kdjax.data.teacher_cache.sizes import best_kind, bytes_per_token, expected_bytes, fitted
from kdjax.data.teacher_cache.write import write_cache

__all__ = [
    'Cache',
    'Hidden',
    'HiddenStates',
    'Hybrid',
    'Joined',
    'Kind',
    'Plan',
    'Sampled',
    'Sparse',
    'TopK',
    'answering',
    'best_kind',
    'bytes_per_token',
    'compress',
    'expected_bytes',
    'fitted',
    'keep_hidden',
    'open_cache',
    'write_cache',
]
