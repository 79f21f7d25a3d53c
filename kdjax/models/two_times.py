"""Networks of two times that may be told one."""

from __future__ import annotations

from typing import Any

import jax

from kdjax.models.model import Model, Outputs, Variables, under


def one_or_two_times(model: Model) -> Model:
    """A network of the pair (t, r) that takes t alone as (t, t): of a mean velocity, the velocity itself."""

    def apply(variables: Variables, inputs: Any, *, key: jax.Array, train: bool) -> tuple[Outputs, Variables]:
        x, t, condition = inputs
        pair = t if isinstance(t, tuple) else (t, t)
        return model.apply(variables, (x, pair, condition), key=key, train=train)

    return Model(
        model.init, apply, f'one_or_two_times({model.name})', model.rules,
        lambda **changes: one_or_two_times(under(model, **changes)),
    )  # fmt: skip
