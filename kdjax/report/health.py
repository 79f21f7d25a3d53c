"""Metrics that stand beside quality: what of the data is covered, and how healthy the training of a generator is."""

from __future__ import annotations

COVERAGE = {
    'modes': 'modes of the data with at least a tenth of their share of samples',
    'in_modes': 'samples within three deviations of a mode',
    'weight_error': 'total variation between the weights of modes and the true ones',
    'recall': 'real images that lie among samples, as a judge sees them',
    'coverage': 'real images whose neighbourhood holds a sample, as a judge sees them',
    'vendi': 'how many different samples there are, as a judge sees them',
    'within_class': 'mean distance of samples of a class, as a judge sees them',
    'diversity': 'mean distance of pictures of a condition',
    'view_consistency': 'views of a scene in which a judge sees the same class',
}

HEALTH = {
    'fake_error': 'distance of the fake score from the true score of the samples, in units of the noise',
    'direction_cosine': 'cosine of the direction used and the true one',
    'gap_to_teacher': "distance of the samples' true score from the teacher's, in units of the noise",
    'discriminator_gap': "the head's logit of data less that of samples, noised alike; 0 if it cannot tell them apart",
    'direction_noise': 'share of a direction that is noise and not its mean',
    'tangent_median': 'root mean square of the tangent of an example before it is normalised, the median',
    'tangent_p95': 'the same, below which 95 of 100 examples lie',
    'saturated': 'pixels beyond the range of the data',
    'norm': 'size of pixels over that of exact samples',
}

GROUPS = (
    ('Coverage and diversity', 'coverage', COVERAGE),
    ('Health', 'health', HEALTH),
)
"""Title, anchor, and what each metric says."""

BESIDE = frozenset({*COVERAGE, *HEALTH})
