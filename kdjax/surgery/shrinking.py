"""A smaller decoder cut out of a larger one: fewer blocks, and narrower where the least is lost by the weights."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from kdjax.errors import UserError
from kdjax.models.decoder_config import DecoderConfig
from kdjax.models.model import Variables
from kdjax.surgery.freezing import paths

CUT = ('layers', 'heads', 'hidden', 'width')
"""What can be made smaller: blocks, query heads, hidden units of the MLP, features of the residual stream."""

AXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r'(embedding|head|position)/table$', ('', 'width')),
    (r'(^|/)norm[12]?/(scale|bias)$', ('width',)),
    (r'attention/q/kernel$', ('width', 'heads')),
    (r'attention/q/bias$', ('heads',)),
    (r'attention/[kv]/kernel$', ('width', 'kv_heads')),
    (r'attention/[kv]/bias$', ('kv_heads',)),
    (r'attention/[qk]_norm/scale$', ('',)),
    (r'attention/out/kernel$', ('heads', 'width')),
    (r'mlp/(gate|up)/kernel$', ('width', 'hidden')),
    (r'mlp/(gate|up)/bias$', ('hidden',)),
    (r'mlp/down/kernel$', ('hidden', 'width')),
    (r'(attention/out|mlp/down)/bias$', ('width',)),
)
"""Which axes of a decoder's arrays are what, by the end of their path."""


def shrink(config: DecoderConfig, variables: Variables, **sizes: int) -> tuple[DecoderConfig, Variables]:
    """The config and variables of the smaller decoder; what is kept is copied, nothing is trained.

    sizes: of `CUT`, one at least.
        layers: `kept_layers`, the first and the last among them (DistilBERT's start, arXiv 1910.01108, sec. 3).
        heads: groups of query heads with the key and value head that they share, in each block those whose weights in
            the output projection are largest.
        hidden: units of each MLP, those with the largest product of the norms of their weights in and out.
        width: features, the same everywhere, those that the embedding and all blocks write with the largest norm.
            Heads keep their width.
    What is kept stays in its order. Norms of weights stand for the activations of a data set, which arXiv 2407.14679
    (sec. 2.2) ranks by: cheap, and worse.

    Raises UserError for a size that is unknown, below 1 or above the decoder's, and for heads that part a group.
    """
    for name, size in sizes.items():
        _check(config, name, size)
    _check_groups(config, sizes.get('heads', config.heads))
    params = dict(variables['params'])
    layers = kept_layers(config.depth, sizes.get('layers', config.depth))
    params['blocks'] = {str(i): params['blocks'][str(layer)] for i, layer in enumerate(layers)}
    now = {name: sizes.get(name, getattr(config, name)) for name in ('width', 'hidden', 'heads')}
    kv_heads = now['heads'] * config.kv_heads // config.heads
    smaller = dataclasses.replace(config, depth=len(layers), kv_heads=kv_heads, **now)
    return smaller, {'params': _cut(params, _kept(config, params, sizes), ''), 'stats': variables['stats']}


def _kept(
    config: DecoderConfig, params: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, dict[str, np.ndarray]]:
    """By block, and under '' of what is in none: the places that are kept of each kind of axis that is cut."""
    width = {'width': _largest(_written(params), sizes['width'])} if 'width' in sizes else {}
    kept = {'': width}
    for block, weights in params['blocks'].items():
        kept[block] = dict(width)
        if 'hidden' in sizes:
            kept[block]['hidden'] = _largest(_units(weights['mlp']), sizes['hidden'])
        if 'heads' in sizes:
            groups = sizes['heads'] * config.kv_heads // config.heads
            kept[block] |= _heads(config, weights['attention']['out']['kernel'], groups)
    return kept


def kept_layers(depth: int, layers: int) -> tuple[int, ...]:
    """`layers` of `depth` blocks, spread evenly from the first to the last: 30 -> 10 gives 0, 3, 6, 10, ..., 29.

    One alone is the first. Raises UserError unless 1 <= layers <= depth.
    """
    if not 1 <= layers <= depth:
        raise UserError(f'layers={layers} of a decoder of depth {depth}: choose from 1 to {depth}')
    return tuple(round(i * (depth - 1) / max(layers - 1, 1)) for i in range(layers))


def read_sizes(text: str) -> dict[str, int]:
    """'layers=6,width=512' -> {'layers': 6, 'width': 512}. Raises UserError for what cannot be read."""
    sizes: dict[str, int] = {}
    for part in text.split(','):
        name, equals, value = part.strip().partition('=')
        if name not in CUT or not equals or not value.isdecimal() or name in sizes:
            raise UserError(f"'{part}' in 'shrink:{text}': write {', '.join(f'{cut}=N' for cut in CUT)}, each once")
        sizes[name] = int(value)
    return sizes


def _check(config: DecoderConfig, name: str, size: int) -> None:
    largest = {'layers': config.depth, 'heads': config.heads, 'hidden': config.hidden, 'width': config.width}
    if name not in largest:
        raise UserError(f"'{name}' of a decoder cannot be cut: {', '.join(CUT)} can")
    if not 1 <= size <= largest[name]:
        raise UserError(f'{name}={size}: the decoder has {largest[name]}, choose from 1 to that')


def _check_groups(config: DecoderConfig, heads: int) -> None:
    group = config.heads // config.kv_heads
    if heads % group:
        raise UserError(
            f'heads={heads}: {group} query heads share one of keys and values, choose a multiple of {group}'
        )


def _written(params: Mapping[str, Any]) -> np.ndarray:
    """Of each feature, the sum of squares of all that writes it."""
    writers = re.compile(r'embedding/table$|attention/out/kernel$|mlp/down/kernel$')
    return np.sum([_squares(leaf, 0) for path, leaf in paths(params).items() if writers.search(path)], axis=0)


def _units(mlp: Mapping[str, Any]) -> np.ndarray:
    """Of each hidden unit, the product of the sums of squares of its weights in and out."""
    inward = [_squares(mlp[name]['kernel'], 0) for name in ('gate', 'up') if name in mlp]
    return np.prod([*inward, _squares(mlp['down']['kernel'], 1)], axis=0)


def _heads(config: DecoderConfig, out: Any, groups: int) -> dict[str, np.ndarray]:
    """Rows of the output projection of the kept heads, and columns of their keys and values."""
    wide = config.head_width
    chosen = _largest(_squares(out, 1).reshape(config.kv_heads, -1).sum(1), groups)
    span = config.heads // config.kv_heads * wide

    def spread(width: int) -> np.ndarray:
        return (chosen[:, None] * width + np.arange(width)[None]).reshape(-1)

    return {'heads': spread(span), 'kv_heads': spread(wide)}


def _squares(weights: Any, axis: int) -> np.ndarray:
    return np.square(np.asarray(weights, np.float64)).sum(axis)


def _largest(importance: np.ndarray, count: int) -> np.ndarray:
    """The places of the largest, in order; of equal ones the first."""
    return np.sort(np.argsort(-importance, kind='stable')[:count])


def _cut(tree: Mapping[str, Any], kept: Mapping[str, Mapping[str, np.ndarray]], at: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in tree.items():
        path = f'{at}/{key}' if at else key
        if isinstance(value, Mapping):
            made[key] = _cut(value, kept, path)
        else:
            block = path.split('/')[1] if path.startswith('blocks/') else ''
            made[key] = _taken(value, _axes(path), kept[block])
    return made


def _axes(path: str) -> Sequence[str]:
    return next(axes for pattern, axes in AXES if re.search(pattern, path))


def _taken(leaf: Any, axes: Sequence[str], kept: Mapping[str, np.ndarray]) -> Any:
    for axis, name in enumerate(axes):
        if name in kept:
            leaf = jnp.take(leaf, kept[name], axis=axis)
    return leaf
