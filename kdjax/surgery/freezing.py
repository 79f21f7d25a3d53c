"""Models of which some weights are trained and the others held: variables in, variables out, and a Model of them.

`params` of such a model are the trained weights alone, so that gradients, optimizer state and weight decay exist for
them only. The held weights are given beside them:

    {'params': trained, 'stats': the statistics of the model inside, 'held': the other weights}

A player reads them from `frozen`, so that they are in no state and no checkpoint:

    Player(train_only(student, 'norm'), ..., start='start', held='held')
    frozen = {'start': parts, 'held': parts['held']}             # parts = divided(variables, 'norm')
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax

from kdjax.errors import UserError
from kdjax.models.model import Model, Outputs, Variables, under


def train_only(model: Model, trains: str) -> Model:
    """The model with only those weights trained whose path the regular expression `trains` finds.

    Paths are those in `params`, e.g. `blocks/0/norm1/scale`. It starts from variables divided by `divided`.
    Raises UserError where nothing, or everything, is found.
    """

    def init(key: jax.Array, example: Any) -> Variables:
        return divided(model.init(key, example), trains)

    again = functools.partial(_train_only_under, model, trains)
    return Model(init, applied(model, whole), f'train_only({model.name}, {trains!r})', model.rules, again)


def divided(variables: Variables, trains: str) -> Variables:
    """Variables of a model as those of its `train_only`. Raises UserError where nothing, or everything, is found."""
    found, rest = split(variables['params'], trains)
    if not found or not rest:
        some = ', '.join(list(paths(variables['params']))[:3])
        raise UserError(
            f"trains='{trains}' finds {'no weight' if not found else 'every weight'}, among {some}, ...: "
            'a part of them has to be trained and a part held'
        )
    return {'params': found, 'stats': variables['stats'], 'held': rest}


def whole(variables: Variables) -> Variables:
    """The inverse of `divided`: variables of the model inside."""
    return {'params': joined(variables['params'], variables['held']), 'stats': variables['stats']}


def applied(model: Model, plain: Callable[[Variables], Variables]) -> Callable[..., tuple[Outputs, Variables]]:
    """`apply` of a model on the variables that `plain` makes of these; its statistics are passed on."""

    def apply(variables: Variables, inputs: Any, *, key: jax.Array, train: bool) -> tuple[Outputs, Variables]:
        outputs, after = model.apply(plain(variables), inputs, key=key, train=train)
        return outputs, {**variables, 'stats': after['stats']}

    return apply


def split(tree: Mapping[str, Any], pattern: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays of nested dicts whose path `a/b/c` the regular expression finds, and the others."""
    return _split(tree, re.compile(pattern), '')


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts that share no array, as one."""
    both = dict(first)
    for key, value in second.items():
        both[key] = joined(both[key], value) if key in both else value
    return both


def paths(tree: Mapping[str, Any], at: str = '') -> dict[str, Any]:
    """{path: array} of nested dicts."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= paths(value, f'{at}{key}/') if isinstance(value, Mapping) else {f'{at}{key}': value}
    return found


def _split(tree: Mapping[str, Any], pattern: re.Pattern[str], at: str) -> tuple[dict[str, Any], dict[str, Any]]:
    found: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            for side, part in zip((found, rest), _split(value, pattern, f'{at}{key}/'), strict=True):
                side |= {key: part} if part else {}
        else:
            (found if pattern.search(f'{at}{key}') else rest)[key] = value
    return found, rest


def _train_only_under(model: Model, trains: str, **changes: Any) -> Model:
    return train_only(under(model, **changes), trains)
