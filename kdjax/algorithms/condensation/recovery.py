"""Recovery of images from a trained network: classes, statistics that its norms remember, crops that shrink.

Squeeze (train the network), recover (this), relabel (its logits on crops of what was recovered): SRe2L and CDA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.errors import UserError, unknown
from kdjax.models.model import Model, Variables
from kdjax.streams import stream

CURRICULA = ('cosine', 'linear', 'constant', 'reversed')

Remembered = Mapping[str, tuple[str, ...]]
"""Tap of what enters a batch norm -> path of its `mean` and `var` in the statistics, in the order of the network."""


def convnet_norms(depth: int) -> dict[str, tuple[str, ...]]:
    """Those of `kdjax.models.convnet` with norm='batch'."""
    return {f'convolved{i + 1}': ('norms', str(i)) for i in range(depth)}


def statistics_distance(
    maps: Sequence[jax.Array], means: Sequence[jax.Array], variances: Sequence[jax.Array], *, first: float | int = 10.0
) -> jax.Array:
    """The sum over layers of |batch mean - mean| + |batch variance - variance|, lengths over channels: a scalar.

    maps: what enters each batch norm, `[..., channels]`; statistics over all other axes, variances biased. Lengths
    are not squared, and have gradient 0 at 0. first: weight of the first layer.
    Source: SRe2L, arXiv 2306.13092, equation 8, and its BNFeatureHook; CDA, arXiv 2311.18838.
    """
    total: Any = jnp.zeros((), jnp.float32)
    for i, (x, mean, variance) in enumerate(zip(maps, means, variances, strict=True)):
        rows = x.astype(jnp.float32).reshape(-1, x.shape[-1])
        gaps = jnp.mean(rows, axis=0) - mean, jnp.var(rows, axis=0) - variance
        total = total + (first if i == 0 else 1.0) * (_length(gaps[0]) + _length(gaps[1]))
    return total


def _length(x: jax.Array) -> jax.Array:
    square = jnp.sum(x * x)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)


def recovery(
    images: jax.Array,
    labels: jax.Array,
    variables: Variables,
    *,
    model: Model,
    norms: Remembered,
    key: jax.Array,
    weight: float | int = 0.05,
    first: float | int = 10.0,
    crop: jax.Array | float | None = None,
    flip: bool = False,
) -> jax.Array:
    """Cross-entropy of the network, evaluated, plus `weight` times the distance from its statistics, `[batch]`.

    images `[batch, *image]`: several classes together, as statistics are of all classes; labels class ids or
    distributions. crop: the least share of the area that a random crop keeps, one crop for the batch (`curriculum`);
    None: whole images. flip: mirror half of the batches. The network is a constant.
    Sources: SRe2L, arXiv 2306.13092; CDA, arXiv 2311.18838, and its recover scripts.
    """
    x = images if crop is None else resized_crop(images, key=stream(key, 'crop'), least=crop)
    if flip:
        mirrored = jax.random.bernoulli(stream(key, 'flip'))
        x = jnp.where(mirrored, x[..., ::-1, :], x)
    constants = jax.lax.stop_gradient(variables)
    said, _ = model.apply(constants, x, key=stream(key, 'forward'), train=False)
    remembered = [_found(constants['stats'], path) for path in norms.values()]
    apart = statistics_distance(
        [said.taps[tap] for tap in norms], [r['mean'] for r in remembered], [r['var'] for r in remembered], first=first
    )
    return losses.cross_entropy(said.prediction, labels) + weight * apart


def _found(stats: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if name not in stats:
            raise UserError(
                f"the network remembers no statistics at '{'/'.join(path)}': recovery needs one with norm='batch'"
            )
        stats = stats[name]
    return stats


def curriculum(
    step: Any, *, steps: int, least: float | int = 0.08, milestone: float | int = 1.0, kind: str = 'cosine'
) -> jax.Array:
    """The least area of a crop at a step: from 1 (all of the image) down to `least` over the first milestone * steps.

    kind: 'cosine' as published; 'linear'; 'constant' is `least` throughout, SRe2L; 'reversed' runs from `least` to 1.
    Raises UserError on another kind, and on least or milestone outside (0, 1].
    Source: CDA, arXiv 2311.18838, equations 5-7.
    """
    if kind not in CURRICULA:
        raise unknown('curriculum', kind, CURRICULA)
    for name, value in (('least', least), ('milestone', milestone)):
        if not 0 < value <= 1:
            raise UserError(f'{name}={value} of a curriculum of crops: it lies in (0, 1]')
    done = jnp.clip(jnp.asarray(step, jnp.float32) / (milestone * steps), 0.0, 1.0)
    left = {
        'cosine': (1 + jnp.cos(jnp.pi * done)) / 2,
        'linear': 1 - done,
        'constant': jnp.zeros_like(done),
        'reversed': (1 - jnp.cos(jnp.pi * done)) / 2,
    }[kind]
    return least + (1 - least) * left


def resized_crop(
    images: jax.Array, *, key: jax.Array, least: jax.Array | float, widest: float = 4 / 3
) -> jax.Array:
    """One random crop for the batch, resized to the size of the images `[batch, height, width, channels]`, bilinear.

    Its area is uniform in [least, 1] of the image's, its ratio of sides log-uniform in 1 / widest .. widest, both sides
    at most the image's; its place is uniform. Differentiable in the images.
    """
    draws = jax.random.uniform(key, (4,), jnp.float32)
    low = jnp.asarray(least, jnp.float32)
    area = low + (1 - low) * draws[0]
    ratio = jnp.exp((2 * draws[1] - 1) * jnp.log(jnp.asarray(widest, jnp.float32)))
    share = jnp.minimum(jnp.stack([jnp.sqrt(area / ratio), jnp.sqrt(area * ratio)]), 1.0)
    sides = jnp.asarray(images.shape[1:3], jnp.float32)
    corner = draws[2:] * (1 - share) * sides
    return jax.image.scale_and_translate(
        images, images.shape, (1, 2), 1 / share, -corner / share, method='linear', antialias=False
    )
