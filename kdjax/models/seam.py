"""The seam to network libraries: modules in, two pure functions on plain dicts out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from kdjax.errors import UserError
from kdjax.models.model import Model, Outputs, Rules, Variables


def from_nnx(
    build: Callable[[nnx.Rngs], Any],
    *,
    name: str,
    rules: Rules = (),
    under: Callable[..., Model] | None = None,
) -> Model:
    """A model from an NNX module.

    build(rngs) -> module; `module(inputs, *, train, key)` returns `Outputs`, or a bare prediction.
    name: the specification a reader can rebuild the model from; it enters the identity of what is trained.
    rules, under: see `Model`.

    The module is split once, abstractly. Its `nnx.Param`s become `variables['params']` and every other
    variable `variables['stats']`: nested dicts with string keys (list positions too), so that paths are
    stable. Modules store no `Rngs`: randomness is the `key` of the call.

    Raises UserError if the module stores random state, or is applied to the variables of another model.
    """

    @functools.cache
    def split() -> tuple[Any, dict, dict]:
        module = nnx.eval_shape(lambda: build(nnx.Rngs(jax.random.key(0))))
        if jax.tree.leaves(nnx.state(module, nnx.RngState)):
            raise UserError(f"model '{name}' stores nnx.Rngs: draw from the `key` of the call instead")
        kinds = (nnx.Param, nnx.Not(nnx.Param))
        params, stats = (nnx.to_pure_dict(nnx.state(module, kind)) for kind in kinds)
        return nnx.graphdef(module), params, stats

    def init(key: jax.Array, example: Any) -> Variables:
        del example
        split()
        module = build(nnx.Rngs(key))
        return {'params': _variables(module, nnx.Param), 'stats': _variables(module, nnx.Not(nnx.Param))}

    def apply(variables: Variables, inputs: Any, *, key: jax.Array, train: bool) -> tuple[Outputs, Variables]:
        graph, params, stats = split()
        module = nnx.merge(
            graph,
            nnx.State(_restored(params, variables['params'], f'{name}: params')),
            nnx.State(_restored(stats, variables['stats'], f'{name}: stats')),
        )
        outputs = _outputs(module(inputs, train=train, key=key))
        if not train:
            return outputs, variables
        return outputs, {'params': variables['params'], 'stats': _variables(module, nnx.Not(nnx.Param))}

    return Model(init, apply, name, rules, under)


def from_linen(module: linen.Module, *, name: str) -> Model:
    """A model from a Linen module: `module(inputs, train=...)` or `module(inputs)`.

    The module returns `Outputs`, or a bare prediction.
    The collection `params` is trained; every other one (e.g. `batch_stats`) lives in `variables['stats']`
    under its own name and is updated by a forward pass in training. The streams `params` and `dropout` come
    from the keys given.
    """
    takes_train = 'train' in inspect.signature(module.__call__).parameters

    def mode(train: bool) -> dict[str, Any]:
        return {'train': train} if takes_train else {}

    def init(key: jax.Array, example: Any) -> Variables:
        inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), example)
        collections = linen.unbox(module.init(key, inputs, **mode(False)))
        return {
            'params': _text_keys(collections.get('params', {})),
            'stats': _text_keys({name: tree for name, tree in collections.items() if name != 'params'}),
        }

    def apply(variables: Variables, inputs: Any, *, key: jax.Array, train: bool) -> tuple[Outputs, Variables]:
        collections = {'params': variables['params'], **variables['stats']}
        if not train:
            return _outputs(module.apply(collections, inputs, **mode(False))), variables
        mutable = list(variables['stats'])
        said, updated = module.apply(
            collections, inputs, **mode(True), rngs={'dropout': key}, mutable=mutable
        )
        return _outputs(said), {'params': variables['params'], 'stats': _text_keys(updated)}

    return Model(init, apply, name)


def _outputs(said: Any) -> Outputs:
    return said if isinstance(said, Outputs) else Outputs(said)


def _variables(module: nnx.Module, kind: Any) -> dict[str, Any]:
    return _text_keys(nnx.to_pure_dict(nnx.state(module, kind)))


def _text_keys(tree: Any) -> Any:
    if not isinstance(tree, Mapping):
        return tree
    return {str(key): _text_keys(value) for key, value in tree.items()}


def _restored(template: Any, tree: Any, place: str) -> Any:
    """`tree` with the keys of `template`: list positions are integers to NNX and text to everybody else."""
    if not isinstance(template, Mapping):
        return tree
    expected = sorted(map(str, template))
    if not isinstance(tree, Mapping) or sorted(tree) != expected:
        held = sorted(tree) if isinstance(tree, Mapping) else 'an array'
        raise UserError(
            f'{place}: expected {expected}, found {held}: these are the variables of another model'
        )
    return {key: _restored(value, tree[str(key)], f'{place}/{key}') for key, value in template.items()}
