"""How well a fake score knows the generator that it follows: against the samples themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from kdjax.errors import UserError
from kdjax.metrics.feature_sets import as_features, distances


def expected_of_samples(
    noised: Float[Any, 'rows dims'],
    alpha: Float[Any, ' rows'],
    sigma: Float[Any, ' rows'],
    samples: Float[Any, 'samples dims'],
) -> np.ndarray:
    """E[x | x_t] under the law of the samples, float64 `[rows, dims]`: x_t = alpha x + sigma noise.

    Row i was made of sample i, which is left out of its own mean. It converges to the truth where many samples lie
    within sigma / alpha of one another; below that it is too sharp. Raises UserError on fewer than two samples.
    """
    samples = as_features(samples, called='generated', least=2)
    noised, alpha, sigma = (np.asarray(values, np.float64) for values in (noised, alpha, sigma))
    if len(noised) > len(samples):
        raise UserError(f'{len(noised)} noised rows of {len(samples)} samples: row i is made of sample i')
    log_weight = -0.5 * np.square(distances(noised / alpha[:, None], samples) * (alpha / sigma)[:, None])
    log_weight[np.arange(len(noised)), np.arange(len(noised))] = -np.inf
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    return weight @ samples / weight.sum(axis=1, keepdims=True)


def follower_metrics(
    truth: Float[Any, 'rows dims'],
    fake: Float[Any, 'rows dims'],
    real: Float[Any, 'rows dims'],
    sigma_over_alpha: Float[Any, ' rows'],
) -> dict[str, float]:
    """Of data predictions at one set of noised samples: that of the generator's law, its follower's, the teacher's.

    fake_error: the root mean square of (fake - truth), in units of the noise, over all rows and coordinates.
    gap_to_teacher: the same of (truth - real): how far the generator still has to go.
    direction_cosine: of the direction used, fake - real, and the true one, truth - real, over all rows in units of
        the noise; 1 where the follower is exact, 0 if either vanishes.
    """
    unit = np.asarray(sigma_over_alpha, np.float64)[:, None]
    truth, fake, real = (np.asarray(a, np.float64) / unit for a in (truth, fake, real))
    used, right = fake - real, truth - real
    sizes = np.linalg.norm(used) * np.linalg.norm(right)
    return {
        'fake_error': float(np.sqrt(np.mean(np.square(fake - truth)))),
        'gap_to_teacher': float(np.sqrt(np.mean(np.square(right)))),
        'direction_cosine': float(np.sum(used * right) / sizes) if sizes else 0.0,
    }
