"""Structured pruning of an MLP: gates on hidden units, their importance, reordering, and cutting to a prefix.

Everything maps the variables of a `kdjax.models.mlp` without normalisation (norm='none') to such variables.
Units sorted by falling importance make every prefix a candidate, and all candidates nested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.errors import UserError
from kdjax.models.model import Variables


def widths(variables: Variables) -> tuple[int, ...]:
    """The number of units of every hidden layer. Arrays or their shapes.

    Raises UserError unless these are the variables of an MLP without normalisation.
    """
    params = variables['params']
    if sorted(params) != ['classifier', 'hidden']:
        raise UserError(
            f"a network of {sorted(params)} cannot be cut: an MLP with norm='none' has classifier and hidden"
        )
    return tuple(params['hidden'][str(i)]['kernel'].shape[1] for i in range(len(params['hidden'])))


def scaled(full: Sequence[int], scale: float) -> tuple[int, ...]:
    """Widths at a scale: round(scale * width), at least 1. Raises UserError for a scale outside 0..1."""
    if not 0 < scale <= 1:
        raise UserError(f'a network at scale {scale}: scales lie in 0..1, without 0')
    return tuple(max(1, round(scale * width)) for width in full)


def gate(variables: Variables, gates: Sequence[jax.Array]) -> Variables:
    """Every hidden unit j of layer l times gates[l][j] >= 0: g relu(w x + b) = relu(g (w x + b)).

    gates: one float32 `[width]` a layer. Same shapes out; ones change nothing, a zero cuts the unit off.
    """
    _one_per_layer('gates', gates, variables)
    hidden = {
        str(i): {'kernel': layer['kernel'] * gates[i][None, :], 'bias': layer['bias'] * gates[i]}
        for i, layer in enumerate(_layers(variables))
    }
    return _with_hidden(variables, hidden)


def mask_prefix(variables: Variables, kept: Sequence[int] | jax.Array) -> Variables:
    """All but the first kept[l] units of hidden layer l set to zero.

    kept: integers, one a layer; they may be traced, so that which network to keep can be data.
    Same shapes out: it says what `keep_prefix` of these widths says, and taps are zero where it was cut.
    """
    full = widths(variables)
    kept = jnp.asarray(kept)
    if kept.shape != (len(full),):
        raise UserError(f'widths of shape {list(kept.shape)} to keep: one for each of {len(full)} layers')
    return gate(variables, [(jnp.arange(w) < kept[i]).astype(jnp.float32) for i, w in enumerate(full)])


def keep_prefix(variables: Variables, kept: Sequence[int]) -> Variables:
    """The network of the first kept[l] units of each hidden layer l, really smaller; inputs and classes stay.

    Raises UserError where more than there is, or nothing, is to be kept.
    """
    full = widths(variables)
    if len(kept) != len(full) or any(not 0 < k <= w for k, w in zip(kept, full, strict=True)):
        raise UserError(
            f'hidden widths {tuple(kept)} cannot be cut out of {full}: give as many, from 1 to what is there'
        )
    hidden, inputs = {}, slice(None)
    for i, layer in enumerate(_layers(variables)):
        outputs = slice(kept[i])
        hidden[str(i)] = {'kernel': layer['kernel'][inputs, outputs], 'bias': layer['bias'][outputs]}
        inputs = outputs
    classifier = variables['params']['classifier']
    return _with_hidden(variables, hidden, {**classifier, 'kernel': classifier['kernel'][inputs]})


def permute_units(variables: Variables, orders: Sequence[jax.Array]) -> Variables:
    """Hidden units in another order; the function stays.

    orders: int `[width]` a layer, a permutation: the new unit j is the old unit orders[l][j].
    """
    _one_per_layer('orders', orders, variables)
    hidden: dict[str, Any] = {}
    for i, layer in enumerate(_layers(variables)):
        kernel = layer['kernel'] if i == 0 else layer['kernel'][orders[i - 1], :]
        hidden[str(i)] = {'kernel': kernel[:, orders[i]], 'bias': layer['bias'][orders[i]]}
    classifier = variables['params']['classifier']
    return _with_hidden(variables, hidden, {**classifier, 'kernel': classifier['kernel'][orders[-1], :]})


def importance(
    loss: Callable[[Variables, Any], jax.Array], variables: Variables, batches: Iterable[Any]
) -> list[jax.Array]:
    """How much each unit matters: I = sum over batches |dL/dgate| at gate = 1, over the L2 norm of its layer.

    loss: `(variables, batch) -> scalar`. Signs cancel within a batch, so its size matters; with batches of
        one example this is eq. 2 of Michel et al. (arXiv 1905.10650), there for attention heads.
    Returns one float32 `[width]` a layer, in 0..1; a unit that is never active has 0.
    Source: the rule for hidden units in MiniDisc's code (GeneZC/MiniDisc, run_sparsification_cls.py).
    """
    ones = [jnp.ones((w,), jnp.float32) for w in widths(variables)]

    @jax.jit
    def slopes(variables, batch):
        return [jnp.abs(g) for g in jax.grad(lambda gates: loss(gate(variables, gates), batch))(ones)]

    total = [jnp.zeros_like(g) for g in ones]
    for batch in batches:
        total = [t + s for t, s in zip(total, slopes(variables, batch), strict=True)]
    return [t / jnp.maximum(jnp.linalg.norm(t), 1e-17) for t in total]


def by_importance(
    loss: Callable[[Variables, Any], jax.Array], variables: Variables, batches: Iterable[Any]
) -> Variables:
    """The same function, with the units of every hidden layer in the order of falling `importance`."""
    return permute_units(variables, [jnp.argsort(-i) for i in importance(loss, variables, batches)])


def _layers(variables: Variables) -> list[dict[str, Any]]:
    hidden = variables['params']['hidden']
    return [hidden[str(i)] for i in range(len(hidden))]


def _with_hidden(variables: Variables, hidden: dict[str, Any], classifier: Any = None) -> Variables:
    params = variables['params']
    return {**variables, 'params': {'classifier': classifier or params['classifier'], 'hidden': hidden}}


def _one_per_layer(what: str, values: Sequence[jax.Array], variables: Variables) -> None:
    full, given = widths(variables), tuple(v.shape[0] for v in values)
    if full != given:
        raise UserError(f'{what} for hidden widths {given}, but the network has {full}: one vector a layer')
